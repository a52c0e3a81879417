"""`sweep` and `lifecycle` remove the leftovers of killed writers."""

import json
from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter
from rich.filesize import decimal

from lakery_cloud.cli.common import Json, Quiet, StorageUrl, open_storage
from lakery_cloud.cli.progress import print_note
from lakery_cloud.cli.words import pluralize
from lakery_cloud.maintenance import (
    DEFAULT_AGE,
    DEFAULT_DAYS,
    Leftover,
    apply_lifecycle,
    leftovers,
    lifecycle_rules,
)
from lakery_cloud.maintenance import sweep as sweep_storage


async def sweep(
    *,
    storage: StorageUrl = None,
    older_than: timedelta = DEFAULT_AGE,
    yes: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """List temporary objects and unfinished uploads that killed writers left behind; with --yes delete them.

    The command never deletes content. Google Cloud Storage can't list unfinished uploads; it discards them after a week.

    Example: `lakery-cloud sweep --older-than 2d --storage s3://bucket/reports`

    Args:
        storage: Name or URL of the storage.
        older_than: Minimum age, such as 12h or 7d. It must exceed the duration of your longest write.
        yes: Delete the leftovers. Without it they are only listed.
        quiet: Print no total.
        as_json: Print JSON, one object a line.
    """
    count = size = 0
    async with open_storage(storage) as target:
        found = (sweep_storage if yes else leftovers)(target, older_than=older_than)
        async for leftover in found:
            count, size = count + 1, size + (leftover.size or 0)
            _print(leftover, "deleted" if yes else "would be deleted", as_json=as_json)
    if not as_json and not quiet:
        result = "deleted" if yes else "found; add --yes to delete them" if count else "found"
        print_note(f"{pluralize(count, 'leftover')}, {decimal(size)}: {result}")


async def lifecycle(
    *,
    storage: StorageUrl = None,
    days: int = DEFAULT_DAYS,
    apply: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Print lifecycle rules that remove temporary objects and unfinished uploads; with --apply set them in the bucket.

    The rules have the format of the provider's own tool, and never match content. --apply keeps all other rules of the
    bucket. On Azure, --apply prints the command to run instead; folders have no rules.

    Example: `lakery-cloud lifecycle --days 3 --storage s3://bucket/reports`

    Args:
        storage: Name or URL of the storage.
        days: Age at which temporary objects are removed. It must exceed the duration of your longest write.
        apply: Set the rules in the bucket. Without it they are only printed.
        quiet: Print only the rules.
        as_json: Print one JSON object: result and rules.
    """
    async with open_storage(storage, is_written=True) as target:
        rules = lifecycle_rules(target, days=days)
        is_changed = apply and await apply_lifecycle(target, days=days)
    result = "set" if is_changed else "there already" if apply else "would be set"
    if as_json:
        print(json.dumps({"result": result, "rules": rules}))
        return
    if is_changed or not apply:
        print(json.dumps(rules, indent=2, ensure_ascii=False))
    if not quiet:
        notes = {"set": "set these rules", "there already": "the bucket already has these rules; nothing was changed"}
        print_note(notes.get(result, "nothing was changed; add --apply to set these rules"))


def _print(leftover: Leftover, result: str, *, as_json: bool) -> None:
    kind = "upload" if leftover.upload else "version" if leftover.is_noncurrent else "object"
    begun = leftover.begun.isoformat(timespec="seconds")
    if as_json:
        facts = {"size": leftover.size, "result": result, "error": None, "kind": kind, "begun": begun}
        facts |= leftover.address._asdict()
        print(json.dumps(facts))
    else:
        print(
            f"{result}  {kind}  {begun}  {'-' if leftover.size is None else leftover.size:>14}  {leftover.address.key}"
        )
