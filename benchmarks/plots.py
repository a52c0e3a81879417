"""Draws a results file: rates of all clients, and their processor time. It runs in an environment that has matplotlib."""

import json
import statistics
import sys
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

from benchmarks.peers.catalog import OURS
from benchmarks.targets import Measured
from benchmarks.workloads import BY_NAME

OURS_COLOUR, PEER_COLOUR = "#0b6e99", "#b8c4cc"
COLUMNS = 3
TITLE_WIDTH = 32
"""Characters of a panel's title in one line; a longer one would be cut at the edge of the picture."""


def main() -> None:
    """Draw each API and condition of a results file into a folder: `<api>-<condition>.svg`."""
    results, folder = json.loads(Path(sys.argv[1]).read_text("utf-8"))["results"], Path(sys.argv[2])
    mpl.rcParams.update({"svg.hashsalt": "lakery-cloud", "font.size": 8, "svg.fonttype": "none"})
    folder.mkdir(parents=True, exist_ok=True)
    for (api, condition), entries in groupby(results, key=lambda entry: (entry["api"], entry["condition"])):
        draw([*entries], folder / f"{api}-{condition}.svg")


def draw(entries: list[dict[str, Any]], path: Path) -> None:
    """Draw one picture with a panel for each workload. It shows CPU where the server or the machine limits the rate."""
    measured = Measured(entries)
    measure = "rate" if entries[0]["api"] == "s3" or entries[0]["condition"] == "network" else "cpu"
    workloads = list(dict.fromkeys(entry["workload"] for entry in entries))
    height = -(-len(workloads) // COLUMNS)
    figure, panels = plt.subplots(height, COLUMNS, figsize=(11, 2.9 * height), squeeze=False)
    for panel in panels.flat:
        panel.set_visible(False)
    for panel, workload in zip(panels.flat, workloads, strict=False):
        here = [entry for entry in entries if entry["workload"] == workload]
        bars = []
        for entry in here:
            values = measured.values(entry["api"], entry["condition"], workload, entry["peer"], measure)
            if values:
                bars.append((statistics.median(values), min(values), max(values), entry["peer"]))
        panel.set_visible(True)
        bars.reverse()
        medians = [bar[0] for bar in bars]
        spread = [[bar[0] - bar[1] for bar in bars], [bar[2] - bar[0] for bar in bars]]
        colours = [OURS_COLOUR if bar[3].startswith(OURS) else PEER_COLOUR for bar in bars]
        panel.barh([bar[3] for bar in bars], medians, xerr=spread, color=colours, ecolor="#555555")
        unit = "MB/s" if BY_NAME[workload].is_large else "a second"
        panel.set_title(fill(BY_NAME[workload].title, TITLE_WIDTH), loc="left", fontweight="bold")
        panel.set_xlabel(unit if measure == "rate" else "client CPU, ms for an operation (less is better)")
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
