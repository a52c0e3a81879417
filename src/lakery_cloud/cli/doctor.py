"""`doctor` says what is wrong with a storage, and what to grant or to fix."""

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lakery_cloud.cli.common import (
    Json,
    StorageUrl,
    counted,
    default_url,
    open_storage,
)
from lakery_cloud.cli.failures import gravest
from lakery_cloud.config.configuration import Configuration
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.maintenance import Finding, Outcome, diagnose

_MARKS = {
    Outcome.OK: ("[green]✓[/green]", "ok"),
    Outcome.WARNING: ("[yellow]![/yellow]", "!"),
    Outcome.FAILED: ("[red]✗[/red]", "failed"),
    Outcome.SKIPPED: ("[dim]-[/dim]", "-"),
}
"""On terminals that know more than ASCII, and on others."""


async def doctor(
    *targets: str,
    storage: StorageUrl = None,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
    as_json: Json = False,
) -> None:
    """Try all that a storage needs of its store, and say what to grant or to fix. Nothing is left there.

    Reach, clock, credentials and bucket; each right, on temporary keys; whether create-only writes, checksums and tags
    work; latency and throughput. A warning is no failure.

    Example: `lakery-cloud doctor "s3://bucket/reports?region=eu-central-1"`

    Args:
        targets: Names or URLs of storages, instead of --storage. By default all that are configured.
        storage: Name or URL of the storage.
        quiet: Show only what is not right.
        as_json: Print JSON, one finding a line.
    """
    urls = targets or ((storage,) if storage else tuple(Configuration.load().storages) or (default_url(),))
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        opened = [(url, await stack.enter_async_context(open_storage(url))) for url in urls]
        for url, target in opened:
            findings += await _examine(url, target, quiet=quiet, as_json=as_json)
    errors = [finding.error for finding in findings if finding.error is not None]
    if errors:
        failed = ", ".join(dict.fromkeys(finding.check for finding in findings if finding.error is not None))
        raise _public_class(gravest(errors))(f"{len(errors)} of {counted(len(findings), 'check')} failed: {failed}")


async def _examine(url: str, storage: ObjectStorage[Any], *, quiet: bool, as_json: bool) -> list[Finding]:
    """The findings about one storage: a line of JSON each, as they are made, or a table."""
    progress, found = Console(stderr=True, quiet=quiet or as_json), []
    with progress.status(f"examining {escape(url)}"):
        async with aclosing(diagnose(storage)) as findings:
            async for finding in findings:
                found.append(finding)
                if as_json:
                    print(json.dumps(_facts(url, finding)), flush=True)
    if not as_json:
        _print_table(url, found, quiet=quiet)
    return found


def _print_table(url: str, findings: Sequence[Finding], *, quiet: bool) -> None:
    """A table of what was seen, and below it what to do."""
    console = Console(highlight=False)
    shown = [finding for finding in findings if not quiet or finding.outcome in (Outcome.WARNING, Outcome.FAILED)]
    if not shown:
        return
    console.print(f"[bold]{escape(url)}[/bold]", soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    for finding in shown:
        mark = _MARKS[finding.outcome][console.options.ascii_only]
        table.add_row(mark, finding.check, escape(finding.seen))
    console.print(table)
    for finding in shown:
        if finding.advice is not None:
            console.print(f"[bold]{finding.check}:[/bold] {escape(finding.advice)}", soft_wrap=True)


def _facts(url: str, finding: Finding) -> dict[str, Any]:
    return {
        "storage": url,
        "check": finding.check,
        "outcome": finding.outcome,
        "seen": finding.seen,
        "advice": finding.advice,
        "error": _public_class(finding.error).__name__ if finding.error is not None else None,
        "measured": dict(finding.measured),
    }


def _public_class(error: LakeryCloudError) -> type[LakeryCloudError]:
    """What the documentation calls an error; some have a private subclass."""
    return next(kind for kind in type(error).__mro__ if kind.__module__ == LakeryCloudError.__module__)
