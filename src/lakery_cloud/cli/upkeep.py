"""`sweep`: removing what killed writers left behind."""

import json
from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.filesize import decimal

from lakery_cloud.cli.common import Json, StorageUrl, open_storage
from lakery_cloud.maintenance import DEFAULT_AGE, Leftover, leftovers
from lakery_cloud.maintenance import sweep as sweep_storage


async def sweep(
    *,
    storage: StorageUrl = None,
    older_than: timedelta = DEFAULT_AGE,
    yes: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Find temporary objects and unfinished uploads that killed writers left behind; with --yes delete them.

    Content is never touched. On Google Cloud Storage unfinished uploads can't be listed: they don't show, and end after a
    week.

    Example: `lakery-cloud sweep --older-than 2d --storage s3://bucket/reports`

    Args:
        storage: URL of the storage.
        older_than: How long ago it was begun at least, such as 12h or 7d: longer than your longest write takes.
        yes: Delete. Without it nothing is deleted.
        as_json: Print JSON, one object a line.
    """
    count = size = 0
    async with open_storage(storage) as target:
        found = (sweep_storage if yes else leftovers)(target, older_than=older_than)
        async for leftover in found:
            count, size = count + 1, size + (leftover.size or 0)
            _print(leftover, "deleted" if yes else "would be deleted", as_json=as_json)
    if not as_json:
        done = "deleted" if yes else "found; delete them with --yes" if count else "found"
        Console(stderr=True).print(f"{count} left behind, {decimal(size)}: {done}", highlight=False)


def _print(leftover: Leftover, result: str, *, as_json: bool) -> None:
    kind = "upload" if leftover.upload else "object"
    begun = leftover.begun.isoformat(timespec="seconds")
    if as_json:
        facts = {"result": result, "kind": kind, "begun": begun, "size": leftover.size, **leftover.address._asdict()}
        print(json.dumps(facts))
    else:
        print(
            f"{result}  {kind}  {begun}  {'-' if leftover.size is None else leftover.size:>14}  {leftover.address.key}"
        )
