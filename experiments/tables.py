"""Makes docs/quality.md with its pictures, and the picture of README.md, from experiments/results/.

    python experiments/tables.py

The page is experiments/quality.md with a table for each `<!-- NAME -->`. Differences are to the
dense model of the same task and seed, in points (of 100).
"""

import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from figures import DOCS, acc_figure, front_figure, offline_figure, speed_figure
from runs import NAMES, RESULTS, SPEEDS, headline, knob, load, mean, paired, tasks_of

ROOT = Path(__file__).parent
DECODERS = {
    "llama_sst2": "at alpha 0.5",
    "llama_sst2_dense": "densely",
}
MARK = re.compile(r"<!-- (\w+) -->")


def row(*cells) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def table(heading: list[str], rows: list[list]) -> str:
    if not any(rows):
        return "Not run yet."
    return "\n".join([row(*heading), "|---" * len(heading) + "|", *(row(*r) for r in rows)])


def differences(runs, method_of, count: str, strategy: str = "", base: str = "dense") -> str:
    """A row per task: the metric of the dense pass of `base`, and what each speed loses of it."""
    rows, every = [], defaultdict(list)

    def runs_of(task: str, speed: str) -> list[dict]:
        """Those that were scored so: of dense models not all were, with merging."""
        found = runs.get((task, method_of(speed)), [])
        wanted = strategy or (found and found[0]["strategy"])
        return [run for run in found if any(r["strategy"] == wanted for r in run["rows"][1:])]

    for task in tasks_of(runs):
        trained = [runs_of(task, speed) for speed in SPEEDS]
        common = {run["seed"] for found in trained for run in found}
        dense = {
            run["seed"]: headline(run, "1")
            for run in runs.get((task, base), [])
            if run["seed"] in common
        }
        if not dense:
            continue
        cells = []
        for speed in SPEEDS:
            found = [run for run in runs_of(task, speed) if run["seed"] in dense]
            if not found:
                cells.append("")
                continue
            values = [headline(run, speed, count, strategy) for run in found]
            lost = [v - dense[run["seed"]] for v, run in zip(values, found, strict=True)]
            every[speed].append(mean(lost))
            spread = f" ± {np.std(lost, ddof=1):.1f}" if len(lost) > 1 else ""
            cells.append(f"{mean(values):.1f} ({mean(lost):+.1f}{spread})")
        metric = next(iter(runs[task, "dense"][0]["rows"][0]["metrics"]))
        rows.append([NAMES[task], metric, len(dense), f"{mean(dense.values()):.1f}", *cells])
    last = [f"{mean(every[s]):+.2f}" if len(every[s]) > 1 else "" for s in SPEEDS]
    if rows:
        rows.append(["mean difference", "", "", "", *last])
    return table(["task", "metric", "seeds", "dense", *(f"{s}x" for s in SPEEDS)], rows)


def against(runs, method: str) -> str:
    """One checkpoint for all speeds beside the specialists: at each speed, what it has more."""
    rows, every = [], defaultdict(list)
    for task in tasks_of(runs):
        one = {run["seed"]: run for run in runs.get((task, method), [])}
        for trained in SPEEDS:
            pairs = [(one[run["seed"]], run) for run in runs.get((task, f"at{trained}"), [])
                     if run["seed"] in one]  # fmt: skip
            if pairs:
                more = {s: mean(headline(a, s) - headline(b, s) for a, b in pairs) for s in SPEEDS}
                for speed, value in more.items():
                    every[trained, speed].append(value)
                cells = [
                    f"{more[s]:+.1f}" if s != trained else f"**{more[s]:+.1f}**" for s in SPEEDS
                ]
                rows.append([NAMES[task], f"{trained}x", len(pairs), *cells])
    for trained in SPEEDS:
        if len(every[trained, trained]) > 1:
            cells = [f"{mean(every[trained, s]):+.2f}" for s in SPEEDS]
            rows.append(["mean", f"{trained}x", "", *cells])
    return table(["task", "specialist for", "seeds", *(f"at {s}x" for s in SPEEDS)], rows)


def side_by_side(runs, methods: list[str], strategy: str = "") -> str:
    """By valid length, for tasks where at least two of the methods were run.

    Args:
      strategy: of the rows; "" is each method's own.
    """
    rows = []
    for task in tasks_of(runs):
        present = paired(runs, task, methods)
        for method, found in present.items() if len(present) > 1 else ():
            values = [
                mean(headline(run, s, strategy=strategy) for run in found) for s in ("1", *SPEEDS)
            ]
            rows.append([NAMES[task], method, len(found), *(f"{v:.1f}" for v in values)])
    return table(["task", "method", "seeds", "dense", *(f"{s}x" for s in SPEEDS)], rows)


def profiles(runs) -> str:
    """Specialists for 2x: with the profile measured before, and with the one that is falling."""
    rows = []
    for task in tasks_of(runs):
        found = list(paired(runs, task, ["acc2", "at2"]).values())
        if len(found) == 2:
            values = [mean(headline(run, "2") for run in of) for of in found]
            rows.append([NAMES[task], len(found[0]), *(f"{v:.1f}" for v in values)])
    return table(["task", "seeds", "ACC", "falling"], rows)


def found_profiles() -> str:
    """What search.py found: rates at alpha 1, and exponents of alpha."""
    rows = []
    for task, name in NAMES.items():
        file = RESULTS / f"{task}-search.json"
        if file.exists():
            profile = json.loads(file.read_text())["profile"]
            cells = [", ".join(f"{v:.2f}" for v in profile[k][:-1]) for k in ("rates", "exponents")]
            rows.append([name, *cells])
    return table(["task", "rates of layers 1 to 5", "exponents"], rows)


def decoder() -> str:
    """The paper's Table V: a decoder as a classifier."""
    rows, heading = [], []
    for name, how in DECODERS.items():
        file = RESULTS / f"{name}.json"
        if file.exists():
            found = json.loads(file.read_text())["rows"]
            heading = [
                f"alpha {r['alpha']:g}, {r['expected_speedup']:.2f}x" for r in found if r["alpha"]
            ]
            values = [f"{100 * r['metrics']['dev']['accuracy']:.1f}" for r in found]
            measured = ", ".join(f"{r['measured_speedup']:.2f}" for r in found[1:])
            rows.append([how, *values, measured])
    return table(["trained", "dense", *heading, "measured speedups"], rows)


def variants() -> str:
    """Dense models by other profiles, and with floors, at equal speed."""
    files = {name: RESULTS / f"{task}-variants.json" for task, name in NAMES.items()}
    results = {name: json.loads(f.read_text()) for name, f in files.items() if f.exists()}
    found = {
        name: {(r["variant"], r["asked"]): r for r in result["rows"]}
        for name, result in results.items()
    }
    columns = list(dict.fromkeys(variant for r in results.values() for variant in r["profiles"]))

    def cell(of: dict, variant: str, speed: str) -> str:
        if (variant, speed) not in of:
            return "out of reach"
        return f"{100 * next(iter(of[variant, speed]['metrics'].values())):.1f}"

    rows = [
        [name, f"{speed}x", *(cell(of, variant, speed) for variant in columns),
         f"{100 * of['falling', speed]['separators_alive']:.0f} %"]
        for name, of in found.items() for speed in SPEEDS
    ]  # fmt: skip
    return table(["task", "speed", *columns, "separators alive"], rows)


def speeds() -> str:
    """Measured over dense, beside what was expected, on each task's evaluation texts."""
    rows = []
    for task, name in NAMES.items():
        files = [RESULTS / f"{task}-speed_{dtype}.json" for dtype in ("float32", "bfloat16")]
        if all(file.exists() for file in files):
            found = [json.loads(file.read_text())["rows"] for file in files]
            for count in ("valid", "padded"):
                expected = of_speeds(found[0], count, "expected_speedup")
                measured = [of_speeds(of, count, "measured_speedup") for of in found]
                rows.append([name, count, expected, *measured])
    return table(["task", "counted by", "expected", "float32", "bfloat16"], rows)


def of_speeds(rows: list[dict], count: str, key: str) -> str:
    return ", ".join(f"{row[key]:.2f}" for row in rows if row["count"] == count)


def strategies(runs) -> str:
    """The paper's Table VII: the same counts, chosen by score, from the front, or at random."""
    rows = []
    for task in tasks_of(runs):
        for speed in ("2", "2.9"):
            found = runs.get((task, f"at{speed}"), [])
            if found:
                values = [
                    f"{mean(headline(run, speed, strategy=s) for run in found):.1f}"
                    for s in ("score", "tail", "random")
                ]
                rows.append([NAMES[task], f"{speed}x", len(found), *values])
    return table(["task", "speed", "seeds", "by score", "first ones", "random"], rows)


def offline(runs) -> str:
    """The paper's figure 6 as a table: trained at alpha 1, then alpha alone is changed."""
    rows, alphas = [], {}
    for task in tasks_of(runs):
        for run in runs.get((task, "at1"), []):
            for count in ("valid", "padded"):
                points = knob(run, count)
                alphas |= dict.fromkeys(alpha for alpha, _, _ in points)
                cells = [f"{metric:.1f} at {speed:.2f}x" for _, speed, metric in points]
                rows.append([NAMES[task], count, f"{headline(run, '1'):.1f}", *cells])
    return table(["task", "counted by", "dense", *(f"{alpha:g}" for alpha in alphas)], rows)


def cost(runs) -> str:
    """Minutes of training of the first seed, and the dtype of the computation."""
    methods = list(dict.fromkeys(m for (_, m), of in runs.items() if of[0]["epochs"]))

    def cell(found: list[dict]) -> str:
        return f"{found[0]['minutes']:.1f} ({found[0]['dtype']})" if found else ""

    rows = [[NAMES[task], *(cell(runs.get((task, m), [])) for m in methods)]
            for task in tasks_of(runs)]  # fmt: skip
    return table(["minutes of training", *methods], rows)


def main() -> None:
    runs = load()
    parts = ["all", "all_forgetful", "all_forgetful_longer", "all_taught", "all_undistilled",
             "dense_longer"]  # fmt: skip
    made = {
        "specialists_valid": differences(runs, lambda speed: f"at{speed}", "valid"),
        "specialists_padded": differences(runs, lambda speed: f"at{speed}", "padded"),
        "all_valid": differences(runs, lambda speed: "all", "valid"),
        "all_padded": differences(runs, lambda speed: "all", "padded"),
        "dense_valid": differences(runs, lambda speed: "dense", "valid"),
        "dense_padded": differences(runs, lambda speed: "dense", "padded"),
        "merged_valid": differences(runs, lambda speed: "dense", "valid", "merge"),
        "merged_padded": differences(runs, lambda speed: "dense", "padded", "merge"),
        "longer": side_by_side(runs, ["all", "all_longer"]),
        "longer_valid": differences(runs, lambda speed: "all_longer", "valid"),
        "longer_own": differences(runs, lambda speed: "all_longer", "valid", base="all_longer"),
        "longer_padded": differences(runs, lambda speed: "all_longer", "padded"),
        "against": against(runs, "all"),
        "longer_against": against(runs, "all_longer"),
        "parts": side_by_side(runs, parts),
        "anew": side_by_side(runs, ["all", "all_anew"]),
        "all_by_acc": side_by_side(runs, ["all", "all_acc"]),
        "searched_trained": side_by_side(runs, ["all", "all_searched"]),
        "specialists_merging": side_by_side(runs, ["at2", "merge2", "all"]),
        "eased": side_by_side(runs, ["at2.9", "at2.9_eased"]),
        "profiles": profiles(runs),
        "searched": side_by_side(runs, ["dense", "dense_searched"], "merge"),
        "found": found_profiles(),
        "variants": variants(),
        "decoder": decoder(),
        "speeds": speeds(),
        "strategies": strategies(runs),
        "offline": offline(runs),
        "cost": cost(runs),
    }
    page = (ROOT / "quality.md").read_text()
    (DOCS / "quality.md").write_text(MARK.sub(lambda match: made[match[1]], page))
    acc_figure(runs)
    speed_figure(runs)
    offline_figure(runs)
    front_figure(runs)
    print("\n\n".join(f"{name}\n{text}" for name, text in made.items()))


if __name__ == "__main__":
    main()
