"""What finetune.py wrote to experiments/results/, and its numbers: metrics in points (of 100)."""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
NAMES = {"sst2": "SST-2", "cola": "CoLA", "mrpc": "MRPC", "stsb": "STS-B", "qqp": "QQP",
         "imdb": "IMDB"}  # fmt: skip
SPEEDS = ("1.5", "2", "2.9")


def load() -> dict[tuple[str, str], list[dict]]:
    """Runs by (task, method), one for each seed."""
    runs = defaultdict(list)
    for file in sorted(RESULTS.glob("*-*-*.json")):
        found = json.loads(file.read_text())
        runs[found["task"], found["method"]].append(found)
    return runs


def headline(run: dict, asked: str, count: str = "valid", strategy: str = "") -> float:
    """The first metric of one row of a run, in points, by its own strategy; "1" is dense."""
    for row in run["rows"]:
        same = row["asked"] == asked and row["strategy"] == (strategy or run["strategy"])
        if asked == row["asked"] == "1" or (same and row["count"] == count):
            return 100 * next(iter(row["metrics"].values()))
    raise KeyError(f"{run['task']}-{run['method']}-{run['seed']} has no row {asked} {count}.")


def tasks_of(runs) -> list[str]:
    return [task for task in NAMES if (task, "dense") in runs]


def paired(runs, task: str, methods: Iterable[str]) -> dict[str, list[dict]]:
    """By method, where it was run at all, the runs of the seeds that all of them have, if any."""
    present = {method: runs[task, method] for method in methods if (task, method) in runs}
    seeds = [{run["seed"] for run in found} for found in present.values()]
    common = set.intersection(*seeds) if seeds else set()
    if not common:
        return {}
    return {m: [run for run in found if run["seed"] in common] for m, found in present.items()}


def mean(values) -> float:
    return float(np.mean(list(values)))


def knob(run: dict, count: str) -> list[tuple[float, float, float]]:
    """Alpha, expected speedup and metric in points, of a model that was trained at alpha 1."""
    return [
        (row["alpha"], row["expected_speedup"], 100 * next(iter(row["metrics"].values())))
        for row in run["rows"]
        if row["asked"].startswith("alpha") and row["count"] == count
    ]
