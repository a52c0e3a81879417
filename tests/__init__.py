"""The tests of lakery-cloud."""

import pytest

pytest.register_assert_rewrite("tests.helpers", "tests.cli.desk", "tests.cli.shell")
