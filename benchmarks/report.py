"""A results file as a page: targets first, ratios before absolute figures, and what each peer does beside them."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarks.peers.catalog import OURS
from benchmarks.targets import Measured, rows
from benchmarks.workloads import BY_NAME

HEAD = """# Performance

Made by `make bench`, which runs lakery-cloud and other clients side by side on a server that stores nothing
([how](#how-this-is-measured)). **Ratios** compare us with a peer turn by turn, and above 1 is in our favour; absolute
figures are those of the machine named here.

{machine}

## Targets

| measured | aimed at | reached | |
|---|---|---|---|
{targets}
"""

HOW = """## How this is measured

- The server is `benchmarks/null_server`: it answers as the store's API does, keeps small objects, and drops larger bodies
  as they arrive; these are read back as one block of noise, repeated. It runs on the same machine as the clients and takes
  a core of its own if it must: *server* is how much of one core it took, and near 100 % it would be what is measured.
- Each client runs in a process of its own, in an environment made from `benchmarks/constraints`, or in ours if it is one
  of the SDKs that lakery-cloud is made on. All of them are warm before the first turn, and they take turns: A B C, A B C.
  A ratio is made of two turns of the same round, so what disturbs the machine for longer than that disturbs both.
- Content differs from turn to turn. Whoever does not hash what it writes has the harness hash it, in line; reads are
  compared with their hash where the title says *verified*. What else a client does for its figures stands beside them.
- *CPU* is the client's processor time for one operation, all of its threads. *Peak* is the most memory that its process
  had in a turn, Python and libraries included.
- **plain** is HTTP without more. **tls** is HTTPS with a certificate made for the run. **network** is HTTP where each
  answer waits 20 ms and a connection carries 100 MB/s, so that what is not sent side by side takes its time.
- A turn of many small operations begins no further one after 0.75 seconds.

## What limits it

- **A verified read** is limited by its hash: it goes on in a thread of its own while bytes arrive, and can't be faster.
- **A hashed write over TLS** is limited by the event loop's thread, which encrypts for all connections. Hashing and sending
  go on beside that; what every client has to encrypt leaves less to gain over labox than without TLS.
- **A write to Blob Storage** carries the MD5 of each block, since MD5 is the one checksum that both the service and Azurite
  compare. It takes longer than sending the block does. The other clients here send none.

`make bench ARGS="--only puts,gets --peers obstore --rounds 3"` measures some of it and prints the tables; `--quick` all of
it with one turn each. Without these it writes this page, its pictures, and `benchmarks/results.json`, which has every
turn.
"""

CONDITIONS = {"plain": "plain", "tls": "over TLS", "network": "over a network"}
APIS = {"s3": "S3", "gcs": "Cloud Storage", "azure": "Blob Storage"}


def page(results: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """The page; pictures are paths relative to it."""
    measured = Measured(results["results"])
    targets = "\n".join(f"| {' | '.join(row)} |" for row in rows(measured))
    sections = [HEAD.format(machine=_machine(results["machine"]), targets=targets)]
    for (api, condition), entries in groupby(results["results"], key=lambda entry: (entry["api"], entry["condition"])):
        sections.append(f"## {APIS[api]}, {CONDITIONS[condition]}\n")
        sections += [f"![{path}]({path})\n" for path in pictures if path.endswith(f"/{api}-{condition}.svg")]
        for _, group in groupby(entries, key=lambda entry: entry["workload"]):
            sections.append("\n".join(_table([*group], measured)) + "\n")
    return "\n".join([*sections, HOW])


def terminal(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The lines of one workload's table, for a terminal."""
    measured, first = Measured(entries), entries[0]
    is_large = BY_NAME[first["workload"]].is_large
    yield f"\n{first['api']}, {first['condition']}: {BY_NAME[first['workload']].title}"
    heads = ("ours/peer", "MB/s" if is_large else "a second", "min", "max", "CPU ms", "peak MB", "server")
    yield f"{'':24}" + "".join(f"{head:>11}" for head in heads)
    for entry in entries:
        cells = _figures(entry, measured)
        yield f"{entry['peer']:24}" + ("".join(f"{cell:>11}" for cell in cells) if cells else f"  {_why(entry)}")


def _machine(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['system']}, Python {machine['python']}, "
        f"on {machine['date']}."
    )


def _table(entries: Sequence[Mapping[str, Any]], measured: Measured) -> Iterator[str]:
    workload = BY_NAME[entries[0]["workload"]]
    yield f"### {workload.title}\n"
    unit, turns = "MB/s" if workload.is_large else "a second", max(len(entry["turns"]) for entry in entries)
    yield f"| | ours / peer | {unit}, median of {turns} | CPU, ms | peak, MB | server | what it does |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    for entry in entries:
        name = f"**{entry['peer']}**" if entry["peer"] == OURS else entry["peer"]
        version = f" {entry['version']}" if entry["version"] and not entry["peer"].startswith(OURS) else ""
        cells = _figures(entry, measured)
        if not cells:
            yield f"| {name}{version} | | | | | | {_why(entry)} |"
            continue
        _, median, least, most, cpu, peak, server = cells
        ratio = _ratio(entry, measured)
        failed = sum("error" in turn for turn in entry["turns"])
        does = entry["does"] + (f"; **failed in {failed} of {len(entry['turns'])} turns**" if failed else "")
        yield f"| {name}{version} | {ratio} | {median} ({least} to {most}) | {cpu} | {peak} | {server} | {does} |"


def _figures(entry: Mapping[str, Any], measured: Measured) -> list[str]:
    """Ratio, rate, least, most, CPU, peak, server; none if no turn went well."""
    place = (entry["api"], entry["condition"], entry["workload"], entry["peer"])
    rates = measured.values(*place, "rate")
    if not rates:
        return []
    ratios = measured.ratios(*place)
    cpu, peak, server = (statistics.median(measured.values(*place, what)) for what in ("cpu", "peak", "server"))
    rates_shown = [f"{rate:,.0f}" for rate in (statistics.median(rates), min(rates), max(rates))]
    ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
    return [ratio, *rates_shown, f"{cpu:,.0f}" if cpu >= 10 else f"{cpu:.3f}", f"{peak:,.0f}", f"{server:.0%}"]


def _ratio(entry: Mapping[str, Any], measured: Measured) -> str:
    ratios = measured.ratios(entry["api"], entry["condition"], entry["workload"], entry["peer"])
    if not ratios or entry["peer"] == OURS:
        return ""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _why(entry: Mapping[str, Any]) -> str:
    """Why there are no figures."""
    reason = entry["unavailable"] or next((turn["error"] for turn in entry["turns"] if "error" in turn), "not measured")
    return " ".join(str(reason).split())[:120].replace("|", "/")
