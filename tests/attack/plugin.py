"""A plugin of pytest that writes the counts of a run to the file that `make attack` names."""

import json
import os
from pathlib import Path

from tests.attack.cases import counted


def pytest_sessionfinish() -> None:
    Path(os.environ["LAKERY_CLOUD_ATTACK_COUNTS"]).write_text(json.dumps(counted))
