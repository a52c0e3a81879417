"""`doctor` checks storages, and names the rights to grant and the settings to fix."""

import json
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lakery_cloud.cli.common import Json, Quiet, StorageUrl, default_url, open_storage
from lakery_cloud.cli.failures import error_text, most_severe, public_class, with_line
from lakery_cloud.cli.words import pluralize
from lakery_cloud.config.configuration import Configuration
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.maintenance import Finding, Outcome, diagnose

_MARKS = {
    Outcome.OK: ("[green]✓[/green]", "ok"),
    Outcome.WARNING: ("[yellow]![/yellow]", "!"),
    Outcome.FAILED: ("[red]✗[/red]", "failed"),
    Outcome.SKIPPED: ("[dim]-[/dim]", "-"),
}
"""Outcome -> its mark on Unicode terminals, and on ASCII terminals."""


async def doctor(
    *targets: str,
    storage: StorageUrl = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check a storage and print what to grant or to fix. All objects of the checks are deleted at the end.

    The checks cover connection, clock, credentials and bucket; each permission, on temporary keys; create-only writes,
    checksums and tags; latency and throughput. Warnings do not change the exit code.

    Example: `lakery-cloud doctor "s3://bucket/reports?region=eu-central-1"`

    Args:
        targets: Names or URLs of storages, instead of --storage. Defaults to all configured storages.
        storage: Name or URL of the storage.
        quiet: Show only warnings and failures.
        as_json: Print JSON, one finding a line.
    """
    urls = targets or ((storage,) if storage else tuple(Configuration.load().storages) or (default_url(),))
    findings: list[Finding] = []
    async with AsyncExitStack() as stack:
        opened = [(url, await stack.enter_async_context(open_storage(url, is_written=True))) for url in urls]
        for url, target in opened:
            findings += await _check_storage(url, target, quiet=quiet, as_json=as_json)
    errors = [finding.error for finding in findings if finding.error is not None]
    if errors:
        failed = ", ".join(dict.fromkeys(finding.check for finding in findings if finding.error is not None))
        kind = public_class(most_severe(errors))
        raise with_line(kind(f"{len(errors)} of {pluralize(len(findings), 'check')} failed: {failed}"))


async def _check_storage(url: str, storage: ObjectStorage[Any], *, quiet: bool, as_json: bool) -> list[Finding]:
    """Check one storage, and print its findings: each as a line of JSON at once, or all as a table at the end."""
    progress, found = Console(stderr=True, quiet=quiet or as_json), []
    with progress.status(f"checking {escape(url)}"):
        async with aclosing(diagnose(storage)) as findings:
            async for finding in findings:
                found.append(finding)
                if as_json:
                    print(json.dumps(_facts(url, finding)), flush=True)
    if not as_json:
        _print_table(url, found, quiet=quiet)
    return found


def _print_table(url: str, findings: Sequence[Finding], *, quiet: bool) -> None:
    """Print a table of the findings, and the advice below it."""
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
        "result": finding.outcome,
        "seen": finding.seen,
        "advice": finding.advice,
        "error": error_text(finding.error) if finding.error is not None else None,
        "measured": dict(finding.measured),
    }
