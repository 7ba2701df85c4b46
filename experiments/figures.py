"""The pictures of docs/quality.md; tables.py makes them."""

from collections import defaultdict
from pathlib import Path

import matplotlib
from runs import NAMES, SPEEDS, knob, mean, paired, tasks_of

matplotlib.use("Agg")
from matplotlib import pyplot as plt

DOCS = Path(__file__).parent.parent / "docs"
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
