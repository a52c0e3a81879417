"""`sweep` and `lifecycle` remove what killed writers left behind; `verify` finds what is not what its key says."""

import json
from datetime import timedelta
from typing import Annotated

from cyclopts import Parameter, validators
from rich.filesize import decimal
from rich.progress import DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from lakery_cloud.cli.common import (
    Json,
    Quiet,
    StorageUrl,
    counted,
    open_storage,
)
from lakery_cloud.cli.progress import error_console, note, print_above
from lakery_cloud.errors import IntegrityError
from lakery_cloud.maintenance import (
    DEFAULT_AGE,
    DEFAULT_DAYS,
    READS_AT_A_TIME,
    Leftover,
    Verified,
    apply_lifecycle,
    leftovers,
    lifecycle_rules,
)
from lakery_cloud.maintenance import sweep as sweep_storage
from lakery_cloud.maintenance import verify as verify_storage


async def sweep(
    *,
    storage: StorageUrl = None,
    older_than: timedelta = DEFAULT_AGE,
    yes: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
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
        quiet: Show no sum.
        as_json: Print JSON, one object a line.
    """
    count = size = 0
    async with open_storage(storage) as target:
        found = (sweep_storage if yes else leftovers)(target, older_than=older_than)
        async for leftover in found:
            count, size = count + 1, size + (leftover.size or 0)
            _print(leftover, "deleted" if yes else "would be deleted", as_json=as_json)
    if not as_json and not quiet:
        done = "deleted" if yes else "found; delete them with --yes" if count else "found"
        note(f"{count} left behind, {decimal(size)}: {done}")


async def lifecycle(
    *,
    storage: StorageUrl = None,
    days: int = DEFAULT_DAYS,
    apply: Annotated[bool, Parameter(negative="")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Print the provider's own rules that remove temporary objects and unfinished uploads; with --apply set them.

    They are printed as the tool of the provider takes them. Content is in none of them. --apply leaves all other rules of
    the bucket as they are. Azure's rules can't be set from here; folders have none.

    Example: `lakery-cloud lifecycle --days 3 --storage s3://bucket/reports`

    Args:
        storage: URL of the storage.
        days: Age at which temporary objects go: more than your longest write takes.
        apply: Set the rules in the bucket. Without it they are only printed.
        quiet: Print nothing but the rules.
        as_json: Print JSON, one object a line.
    """
    async with open_storage(storage) as target:
        rules = lifecycle_rules(target, days=days)
        is_changed = apply and await apply_lifecycle(target, days=days)
    result = "set" if is_changed else "there already" if apply else "would be set"
    if as_json:
        print(json.dumps({"result": result, "rules": rules}))
        return
    if is_changed or not apply:
        print(json.dumps(rules, indent=2, ensure_ascii=False))
    if not quiet:
        done = {"set": "these rules were set", "there already": "the rules are there already; nothing was changed"}
        note(done.get(result, "nothing was changed; set the rules with --apply"))


async def verify(
    *,
    storage: StorageUrl = None,
    after: str = "",
    at_a_time: Annotated[int, Parameter(validator=validators.Number(gte=1))] = READS_AT_A_TIME,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Read all content of a storage, and name what is damaged, truncated or at the wrong key. Exits with 5 if anything is.

    Example: `lakery-cloud verify --storage s3://bucket/reports`

    Args:
        storage: URL of the storage.
        after: Leave out content up to this hash, to go on where an earlier run ended.
        at_a_time: Objects that are read at a time.
        quiet: Show no progress and no sum.
        as_json: Print JSON, one object a line, also for content that is right.
    """
    count = size = wrong = 0
    console = error_console()
    columns = (TextColumn("{task.description}"), DownloadColumn(binary_units=True), TransferSpeedColumn())
    is_shown = console.is_terminal and not quiet
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, disable=not is_shown) as progress:
        task = progress.add_task("", total=None)
        async with open_storage(storage) as source:
            async for verified in verify_storage(source, after=after, at_a_time=at_a_time):
                count, size = count + 1, size + verified.info.size
                wrong += verified.problem is not None
                progress.update(
                    task, completed=size, description=f"{counted(count, 'object')}, last {verified.content_hash[:16]}"
                )
                _print_verified(verified, progress, as_json=as_json)
    if wrong:
        raise IntegrityError(
            f"{wrong} of {count} objects are not what their keys say; write their content again from elsewhere, after "
            "deleting them"
        )
    if not as_json and not quiet:
        note(f"{counted(count, 'object')}, {decimal(size)}: each is what its key says")


def _print_verified(verified: Verified, progress: Progress, *, as_json: bool) -> None:
    if as_json:
        size = verified.info.size
        print_above(
            progress, json.dumps({"content_hash": verified.content_hash, "size": size, "problem": verified.problem})
        )
    elif verified.problem is not None:
        print_above(progress, f"{verified.problem}  {verified.content_hash}  {verified.info.size:>14}")


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
