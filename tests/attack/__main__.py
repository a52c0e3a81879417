"""`make attack MINUTES=20`: the generated tests of security, with many more cases and other ones each time, and a table of counts.

The attacks take turns until the time is over; each has at least one turn. A turn is a run of pytest with a seed of its own.
It exits with 1 if a turn finds something, and prints how to repeat that turn.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- counts: begin -->", "<!-- counts: end -->"
PATIENCE = 1800
"""Seconds after which a test of a turn hangs."""


@dataclass(frozen=True)
class Attack:
    """Generated tests, and how many times the cases of `make test` one turn tries.

    Attributes:
        name: Its subject.
        tests: Files of tests, or parts of them.
        times: See `tests.attack.cases.TIMES`.
        only: An expression of pytest's option `-k`.
    """

    name: str
    tests: Sequence[str]
    times: int
    only: str = ""

    def command(self, seed: int) -> list[str]:
        """Return the command of a turn."""
        only = ["-k", self.only] if self.only else []
        return [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.attack.plugin"),
            *(f"--hypothesis-seed={seed}", f"--timeout={PATIENCE}", "--show-capture=no", *only, *self.tests),
        ]

    def environment(self, seed: int) -> dict[str, str]:
        """Return the variables of a turn."""
        return {"LAKERY_CLOUD_ATTACK": str(self.times), "LAKERY_CLOUD_ATTACK_SEED": str(seed % 2**31)}


# Turns of about half a minute on an idle machine, so that each attack has several in twenty minutes.
ATTACKS = (
    Attack("responses", ["tests/stores/test_mutated_answers.py"], 2),
    Attack("secrets", ["tests/security/test_secrets.py"], 6, "however"),
    Attack("cancellations", ["tests/security/test_cancellations.py"], 4),
    Attack("connections", ["tests/http/test_generated_connections.py"], 10),
    Attack("unasked responses", ["tests/security/test_desynchronised.py"], 2, "cut_anywhere"),
    Attack("names in records", ["tests/security/test_record_endpoints.py"], 2, "names_lead"),
    Attack("signatures", ["tests/security/test_signatures.py"], 32),
    Attack("records", ["tests/security/test_hostile_records.py"], 4, "changed_records or safe_place"),
    Attack("folders", ["tests/security/test_folder_races.py"], 2),
    Attack("the HTTP reader", ["tests/http/test_against_h11.py"], 1, "not once_read"),
)


@dataclass
class Turn:
    """The outcome of one turn."""

    attack: Attack
    seed: int
    tried: Counter[str]
    seconds: float
    output: str
    failed: bool

    @property
    def repeat(self) -> str:
        """The command that repeats it."""
        variables = " ".join(f"{name}={value}" for name, value in self.attack.environment(self.seed).items())
        command = " ".join(f"'{word}'" if " " in word else word for word in self.attack.command(self.seed)[1:])
        return f"{variables} LAKERY_CLOUD_ATTACK_COUNTS=/dev/null python {command}"


def take_turn(attack: Attack, seed: int) -> Turn:
    """Run the tests of an attack once."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder, "counts.json")
        environment = {**os.environ, **attack.environment(seed), "LAKERY_CLOUD_ATTACK_COUNTS": str(counts)}
        done = subprocess.run(
            attack.command(seed), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        tried = Counter(json.loads(counts.read_text())) if counts.exists() else Counter[str]()
    # Tests that are not there, or that count nothing, find nothing either.
    failed = done.returncode != 0 or not tried
    return Turn(attack, seed, tried, time.monotonic() - start, done.stdout, failed)


def turns(attacks: Sequence[Attack], *, minutes: float, seed: int) -> Iterator[Turn]:
    """Take turns until the time is over."""
    end = time.monotonic() + minutes * 60
    for round_number in count():
        for number, attack in enumerate(attacks):
            if round_number and time.monotonic() >= end:
                return
            yield take_turn(attack, seed + round_number * len(attacks) + number)


def table_of(found: Sequence[Turn], *, seed: int) -> str:
    """Format the table of counts."""
    seconds, tried, took = Counter[str](), Counter[str](), Counter[str]()
    attack_of = {}
    for turn in found:
        took[turn.attack.name] += 1
        seconds[turn.attack.name] += round(turn.seconds)
        for what in turn.tried:
            attack_of[what] = turn.attack.name
        tried.update(turn.tried)
    minutes = sum(seconds.values()) / 60
    lines = [
        f"The last run took {minutes:.0f} minutes, with seeds from {seed}, and found nothing.",
        "",
        "| attack | turns | seconds | tried | |",
        "|---|---:|---:|---:|---|",
    ]
    for what, number in tried.items():
        name = attack_of[what]
        lines.append(f"| {name} | {took[name]} | {seconds[name]} | {number:,} | {what} |")
    return "\n".join(lines)


def write_table(page: Path, table: str) -> None:
    """Replace the table in a page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}")


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="duration of all turns")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="seed of the first turn")
    parser.add_argument("--on", choices=[attack.name for attack in ATTACKS], action="append", help="this attack only")
    parser.add_argument("--page", type=Path, help="write the counts to this page, if nothing was found")
    options = parser.parse_args()
    attacks = [attack for attack in ATTACKS if not options.on or attack.name in options.on]
    found = []
    for turn in turns(attacks, minutes=options.minutes, seed=options.seed):
        found.append(turn)
        counts = ", ".join(f"{number:,} {what}" for what, number in turn.tried.items()) or "nothing was tried"
        print(f"{turn.attack.name}, seed {turn.seed}: {counts}, {turn.seconds:.0f} s", flush=True)
        if turn.failed:
            print(f"{turn.output[-20_000:]}\nFound with seed {turn.seed}. To repeat it:\n{turn.repeat}", flush=True)
    failures = [turn for turn in found if turn.failed]
    for turn in failures:
        print(f"found: {turn.attack.name}, seed {turn.seed}")
    if options.page is not None and not failures:
        write_table(options.page, table_of(found, seed=options.seed))
    print("findings" if failures else "nothing was found")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
