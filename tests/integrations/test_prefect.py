"""Prefect's result store keeps results by the recipe of its page, in a process with Prefect and the packages that it needs."""

import json
import subprocess
import sys
from pathlib import Path

from tests.helpers import PATIENCE
from tests.integrations.packages import Packages

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "integrations" / "prefect.md"


def test_results_are_kept_once_and_loaded_by_their_records(tmp_path: Path) -> None:
    prefect = Packages("prefect")
    prefect.install()
    done = subprocess.run(
        [sys.executable, HERE / "prefect_results.py", PAGE, tmp_path],
        env={**prefect.environment, "PREFECT_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["loaded"] == [True, True]
    assert len(found["sizes"]) == 2 and max(found["sizes"]) < 2000, "Prefect keeps records"
    assert found["stored"] == 1, "equal results are stored once"
