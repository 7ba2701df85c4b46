"""The pictures of docs/quality.md and README.md; tables.py makes them."""

import json
from collections import defaultdict
from pathlib import Path

import matplotlib
from matplotlib.ticker import PercentFormatter
from runs import NAMES, RESULTS, SPEEDS, headline, knob, mean, paired, tasks_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).parent.parent / "docs"
# Of the picture of README.md: what a model reads, and how well it is measured.
FRONT = {
    "imdb": "film reviews (IMDB, accuracy)",
    "mrpc": "paraphrases (MRPC, F1)",
    "sst2": "short phrases (SST-2, accuracy)",
    "qqp": "same question or not (QQP, F1)",
    "stsb": "similarity of two sentences (STS-B, Pearson)",
}
CURVES = {  # the lines of the picture: method and strategy
    "dense, forgetting": ("dense", "score"),
    "dense, merging": ("dense", "merge"),
    "specialist for 2x, forgetting": ("at2", "score"),
    "all speeds, forgetting": ("all_forgetful", "score"),
    "all speeds, merging": ("all", "merge"),
}


def panels(number: int, **shared):
    """A figure of so many axes, three in a row at most."""
    columns, rows = min(number, 3), -(-number // 3)
    size = (11 if columns == 3 else 4.2 * columns, 3.3 * rows)
    fig, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", **shared
    )
    for ax in axes.flat[number:]:
        ax.set_axis_off()
    return fig, list(axes.flat[:number])


def acc_figure(runs) -> None:
    """The paper's figure 4: ACC per layer, and its fit, for each task."""
    found = {task: runs[task, "dense"][0] for task in tasks_of(runs)}
    fig, axes = panels(len(found), sharey=True)
    for ax, (task, run) in zip(axes, found.items(), strict=True):
        profile = run["acc"]
        layers = range(1, len(profile["acc"]) + 1)
        ax.plot(layers, profile["acc"], "o", label="ACC")
        ax.plot(layers, profile["curve"], label=profile["fit"])
        ax.set_title(NAMES[task])
        ax.set_ylim(0, 1)
    axes[0].legend()
    fig.supxlabel("layer")
    fig.supylabel("ACC")
    fig.savefig(DOCS / "quality_acc.png", dpi=110, bbox_inches="tight")


def speed_figure(runs) -> None:
    """Metric against expected speedup, counted by valid length."""
    fig, axes = panels(len(tasks_of(runs)))
    for ax, task in zip(axes, tasks_of(runs), strict=True):
        found = paired(runs, task, dict.fromkeys(method for method, _ in CURVES.values()))
        for number, (label, (method, strategy)) in enumerate(CURVES.items()):
            points = defaultdict(list)
            for run in found.get(method, []):
                for row in run["rows"]:
                    asked = row["asked"]
                    if asked == "1" or (row["strategy"], row["count"]) == (strategy, "valid"):
                        points[asked].append(next(iter(row["metrics"].values())))
            values = {float(s): 100 * mean(points[s]) for s in ("1", *SPEEDS) if points[s]}
            if len(values) > 1:
                ax.plot(values.keys(), values.values(), "o-", color=f"C{number}", label=label)
        ax.set_title(NAMES[task])
    lines = max(axes, key=lambda ax: len(ax.lines)).get_legend_handles_labels()
    fig.legend(*lines, fontsize=8, ncols=len(CURVES), loc="outside upper center")
    fig.supxlabel("expected speedup (valid tokens)")
    fig.supylabel("metric, points")
    fig.savefig(DOCS / "quality_speed.png", dpi=110, bbox_inches="tight")


def offline_figure(runs) -> None:
    """The paper's figure 6: metric and expected speedup against alpha."""
    tuned = {task: runs[task, "at1"][0] for task in tasks_of(runs) if (task, "at1") in runs}
    if not tuned:
        return
    fig, axes = panels(len(tuned))
    for ax, (task, run) in zip(axes, tuned.items(), strict=True):
        speed = ax.twinx()
        for count, style in (("valid", "o-"), ("padded", "s--")):
            alphas, speedups, values = zip(*knob(run, count), strict=True)
            ax.plot(alphas, values, style, color="C0", label=f"metric, {count}")
            speed.plot(alphas, speedups, style, color="C1", label=f"speedup, {count}")
        ax.set_title(NAMES[task])
    axes[0].set_ylabel("metric, points", color="C0")
    speed.set_ylabel("expected speedup", color="C1")
    lines = [line for one in (ax, speed) for line in one.lines]
    fig.legend(lines, [line.get_label() for line in lines], ncols=4, fontsize=8,
               loc="outside upper center")  # fmt: skip
    fig.supxlabel("alpha")
    fig.savefig(DOCS / "quality_offline.png", dpi=110, bbox_inches="tight")


def front_figure(runs) -> None:
    """What one checkpoint keeps of its own dense quality, against measured speedup."""
    fig, ax = plt.subplots(figsize=(7.2, 3.6), layout="constrained")
    for task, label in FRONT.items():
        rows = json.loads((RESULTS / f"{task}-speed_float32.json").read_text())["rows"]
        speedups = [row["measured_speedup"] for row in rows if row["count"] == "valid"]
        found = runs[task, "all_longer"]
        kept = [mean(100 * headline(run, s) / headline(run, "1") for run in found) for s in SPEEDS]
        ax.plot([1, *speedups], [100, *kept], "o-", label=label)
    ax.set_xlabel("measured speedup over the dense model, on 2 CPU cores")
    ax.set_ylabel("quality kept")
    ax.yaxis.set_major_formatter(PercentFormatter(decimals=0))
    ax.xaxis.set_major_formatter("{x:g}x")
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower left", frameon=False)
    fig.savefig(DOCS / "front.png", dpi=130)
