"""A page made from a results file: targets first, then ratios and absolute figures of each client."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from benchmarks.peers.catalog import OURS
from benchmarks.samples import NAMES
from benchmarks.targets import Measured, rows
from benchmarks.workloads import BY_NAME

HEAD = """# Performance

`make bench` made this page. It runs lakery-cloud and other clients side by side on a server that stores almost nothing
([details](#how-this-is-measured)). A **ratio** compares lakery-cloud with another client turn by turn; above 1,
lakery-cloud is better. Absolute figures hold for this machine:

{machine}

## Targets

A missed target has beside it what limits it: a client that does less, compared in the same way, and how many of the cores
each of the compared clients kept busy.

| measured | target | reached | | limit |
|---|---|---|---|---|
{targets}
"""

PROFILE = """## Where small requests spend CPU time

{shares}

A run of its own takes samples of what the client does. Their shares are multiplied by the CPU time in the tables above. A
library counts for the part that calls it. *Requests of the API* writes requests and reads their responses. *Engine* is what
all clouds have in common: checks of digests, tags and keys, storage data, limits, retries, telemetry.
"""

HOW = """## How this is measured

- The server is `benchmarks/null_server`. It answers as the store's API does, keeps small objects, and drops larger bodies
  as they arrive; a read of those returns one block of noise, repeated. It runs on the same machine as the clients.
  *Server* is the share of one core that it used: near 100 %, the server limits the result.
- Each client runs in a process of its own, in an environment made from `benchmarks/constraints`. The SDKs below
  lakery-cloud run in its environment. All clients warm up before the first turn, and then take turns: A B C, A B C. A
  ratio compares two turns of the same round, so that a slow period of the machine affects both.
- Content differs from turn to turn. If a client does not hash the content that it writes, the harness hashes it in line.
  Reads are compared with their hash if the title says *verified*. The last column shows what else a client does, and
  after *seen* what the server counted: requests of one operation, checksums of bodies, conditions, and bytes that it
  copied.
- After each turn of writes, the server must have as many objects and bytes as the client says that it wrote. Otherwise the
  turn counts as failed.
- *CPU* is the CPU time of all threads of the client for one operation. *Peak* is the memory peak of its process in a
  turn, including Python and libraries.
- **plain** is plain HTTP. **tls** is HTTPS with a certificate made for the run. **network** is HTTP with 20 ms before each
  response, 100 MB/s on each connection, and 200 MB/s for each copy inside the store, so that clients with parallel
  requests and few copies have an advantage.
- A file *with a known hash* was hashed before the turn. Clients that can't use the hash hash it again, or not at all.
- A **cold start** is a new process that does one thing. *CPU* and *peak* are those of the process. `lakery-cloud-before` is
  the command of an earlier commit (in `benchmarks/earlier.py`), which imported its modules at once. gcsfs starts without
  its experimental features, since these wait for a server of gRPC.
- A turn of many small operations starts no more of them after 0.75 seconds.

## What limits the rates

- **Small requests** keep one thread busy all the time, and Python runs one thread at a time: with one core in use, only
  less CPU time for each request makes more of them. `loop-alone` is no client: over bare connections of the same event
  loop, it sends requests without hashes, checksums and signatures, and looks for nothing but the end of the response. What
  lakery-cloud needs more is its own work in Python: hash, signature, retries, and the strict reading of responses. obstore
  and opendal do theirs in Rust, on several threads.
- **A verified read** is limited by hashing, which runs in a thread of its own while bytes arrive. `loop-alone-hashed` is no
  client: it reads over a bare connection, with the same hash in a thread.
- **A read without verification** is limited by the event loop, as `loop-alone` shows, which receives and counts the bytes.
  boto3 and labox receive them by blocking calls in a thread.
- **A hashed write over TLS** is limited by the thread of the event loop, which encrypts for all connections while another
  thread hashes. Every client has to encrypt, so the advantage over labox is smaller than without TLS.
- **A file whose hash is known** is hashed once more while it is sent, since content that is not what its key says is never
  made visible. `loop-alone-hashed` is `loop-alone` with that hash, in a thread. awscrt and s3transfer hash nothing.
- **A write to Blob Storage** sends a checksum of each block: a CRC64 with the extra `speed`, otherwise an MD5, which takes
  longer than sending the block. The other clients here send no checksum.
- **A stream of unknown hash over a network** can get its key only when its end is hashed. On S3 it needs six requests
  besides its parts and their copies, four of them one after the other at its end (completion, copies, completion,
  deletion), where clients that know the key need one there. `loop-alone-temporary` is no client: it sends these requests,
  and those of the next two, over bare connections while a thread hashes. `lakery-cloud-digest` is the same stream with a
  known hash.
- **A write to Cloud Storage over a network** is a resumable upload, which has one connection and so its rate.
  `lakery-cloud-composite` is the same with `composite_uploads=True`: parts side by side, each charged as a write.
- **A write to Blob Storage over a network** ends with one request that copies the blob, and takes as long as the store
  copies. `lakery-cloud-blocks` is the same with a smaller `copy_threshold`: blocks are copied side by side, but a copy
  that fails leaves invisible blocks for a week. Four of its requests follow one another at the end (commit, copies,
  commit, deletion), where obstore has one commit. `loop-alone-blocks` is no client: it sends these requests over bare
  connections while a thread hashes.

`make bench ARGS="--only puts,gets --peers obstore --rounds 3"` measures a selection and prints its tables; `--quick` runs
one turn of everything. Without options, `make bench` writes this page, its pictures, and `benchmarks/results.json` with
the figures of every turn.
"""

CONDITIONS = {"plain": "plain", "tls": "over TLS", "network": "over a network"}
APIS = {"s3": "S3", "gcs": "Cloud Storage", "azure": "Blob Storage", "start": "Cold start on S3"}
APIS |= {"start-gcs": "Cold start on Cloud Storage", "start-azure": "Cold start on Blob Storage"}


def page(results: Mapping[str, Any], pictures: Sequence[str]) -> str:
    """Return the page. Pictures are paths relative to it."""
    measured = Measured(results["results"])
    targets = "\n".join(f"| {' | '.join(row)} |" for row in rows(measured))
    sections = [HEAD.format(machine=_machine(results["machine"]), targets=targets)]
    for (api, condition), entries in groupby(results["results"], key=lambda entry: (entry["api"], entry["condition"])):
        sections.append(f"## {APIS[api]}, {CONDITIONS[condition]}\n")
        sections += [f"![{path}]({path})\n" for path in pictures if path.endswith(f"/{api}-{condition}.svg")]
        for _, group in groupby(entries, key=lambda entry: entry["workload"]):
            sections.append("\n".join(_table([*group], measured)) + "\n")
    if profiles := results.get("profiles"):  # not in results of before it was measured
        sections.append(PROFILE.format(shares="\n".join(shares(profiles, measured))))
    return "\n".join([*sections, HOW])


def terminal(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Return the table of one workload as lines for a terminal."""
    measured, first = Measured(entries), entries[0]
    is_large = BY_NAME[first["workload"]].is_large
    yield f"\n{first['api']}, {first['condition']}: {BY_NAME[first['workload']].title}"
    heads = ("ours/peer", "MB/s" if is_large else "a second", "min", "max", "CPU ms", "peak MB", "server")
    yield f"{'':24}" + "".join(f"{head:>11}" for head in heads)
    for entry in entries:
        cells = _figures(entry, measured)
        if cells:
            yield f"{entry['peer']:24}" + "".join(f"{cell:>11}" for cell in cells) + f"  {_does(entry)}"
        else:
            yield f"{entry['peer']:24}  {_why(entry)}"


def shares(profiles: Sequence[Mapping[str, Any]], measured: Measured) -> Iterator[str]:
    """Return a table of what small requests use CPU time for, beside the whole time of obstore."""
    yield f"| CPU, us | {' | '.join(NAMES)} | together | obstore |"
    yield "|---|" + "---:|" * (len(NAMES) + 2)
    for profile in profiles:
        place = (profile["api"], "plain", profile["workload"])
        cpus = [measured.median(*place, peer, "cpu") for peer in (OURS, "obstore")]
        ours, other = (1000 * cpu if cpu is not None else math.nan for cpu in cpus)
        parts = [ours * profile["shares"][part] for part in NAMES]
        cells = " | ".join(f"{figure:.0f}" for figure in (*parts, ours, other))
        yield f"| {APIS[place[0]]}, {BY_NAME[place[2]].title} | {cells} |"


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
        does = _does(entry) + (f"; **failed in {failed} of {len(entry['turns'])} turns**" if failed else "")
        yield f"| {name}{version} | {ratio} | {median} ({least} to {most}) | {cpu} | {peak} | {server} | {does} |"


def _figures(entry: Mapping[str, Any], measured: Measured) -> list[str]:
    """Return ratio, rate, minimum, maximum, CPU, peak and server; nothing if every turn failed."""
    place = (entry["api"], entry["condition"], entry["workload"], entry["peer"])
    rates = measured.values(*place, "rate")
    if not rates:
        return []
    ratios = measured.ratios(*place)
    cpu, peak, server = (statistics.median(measured.values(*place, what)) for what in ("cpu", "peak", "server"))
    rates_shown = [
        f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}" for rate in (statistics.median(rates), min(rates), max(rates))
    ]
    ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
    return [ratio, *rates_shown, f"{cpu:,.0f}" if cpu >= 10 else f"{cpu:.3f}", f"{peak:,.0f}", f"{max(server, 0):.0%}"]


def _does(entry: Mapping[str, Any]) -> str:
    """Say what a client does: its description, and what the server has seen in its last turn."""
    seen = next((turn for turn in reversed(entry["turns"]) if "seen" in turn and "error" not in turn), None)
    if seen is None or not seen["seen"]["requests"]:
        return str(entry["does"])
    counts, operations = seen["seen"], seen["operations"]
    requests = counts["requests"] / operations
    facts = [f"{requests:.0f} requests" if requests >= 10 else f"{requests:.1f} requests", *counts["checksums"]]
    if counts["create_only"]:
        facts.append("create-only")
    if counts["copied"]:
        facts.append(f"{counts['copied'] / operations / 1e6:,.1f} MB copied")
    return f"{entry['does']}; *seen:* {', '.join(facts)}"


def _ratio(entry: Mapping[str, Any], measured: Measured) -> str:
    ratios = measured.ratios(entry["api"], entry["condition"], entry["workload"], entry["peer"])
    if not ratios or entry["peer"] == OURS:
        return ""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _why(entry: Mapping[str, Any]) -> str:
    """Say why there are no figures."""
    reason = entry["unavailable"] or next((turn["error"] for turn in entry["turns"] if "error" in turn), "not measured")
    return " ".join(str(reason).split())[:120].replace("|", "/")
