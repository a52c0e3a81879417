"""Results through the result store of Prefect, with the class of docs/integrations/prefect.md. It prints what it found as JSON.

It runs in a process of its own, with Prefect and the packages that it needs: `prefect_results.py <page> <folder>`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore

VALUE = {"numbers": list(range(100_000))}


def main(page: Path, folder: Path) -> dict[str, Any]:
    block = page.read_text("utf-8").partition("```text\n")[2].partition("```")[0]
    exec(compile(block, str(page), "exec"), globals())
    serializer = globals()["LakerySerializer"](url=(folder / "blobs").as_uri())

    def store() -> ResultStore:
        files = LocalFileSystem(basepath=str(folder / "results"))
        return ResultStore(result_storage=files, serializer=serializer, cache_result_in_memory=False)

    for key in ("first", "second"):
        store().write(VALUE, key=key)
    return {
        "loaded": [store().read(key).result == VALUE for key in ("first", "second")],
        "sizes": [path.stat().st_size for path in (folder / "results").iterdir()],
        "stored": sum(path.is_file() for path in (folder / "blobs").iterdir()),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
