"""The command of the generated attacks: its tests are there, and its table replaces the last one."""

from collections import Counter
from pathlib import Path

import pytest

from tests.attack.__main__ import ATTACKS, BEGIN, END, PAGE, ROOT, Attack, Turn, table_of, write_table


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_has_tests_that_count(attack: Attack) -> None:
    for path in attack.tests:
        text = Path(ROOT, path).read_text()
        assert "counted[" in text
        words = attack.only.removeprefix("not ").split(" or ")
        assert all(word in text for word in words), f"no test of {path} is named {attack.only}"


def test_page_names_each_attack() -> None:
    text = PAGE.read_text()
    for attack in ATTACKS:
        assert attack.name in text.partition(BEGIN)[0]


def test_table_replaces_the_last_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\n\nan old table\n\n{END}\n\nafter\n")
    attack = ATTACKS[0]
    turns = [Turn(attack, seed, Counter({"cases": 1000}), 30.4, "", failed=False) for seed in (5, 6)]
    for _ in range(2):
        write_table(page, table_of(turns, seed=5))
    text = page.read_text()
    assert "old" not in text
    assert text.count(f"| {attack.name} | 2 | 60 | 2,000 | cases |") == 1
    assert text.startswith("before\n")
    assert text.endswith("\n\nafter\n")
