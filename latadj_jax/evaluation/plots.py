"""Pictures of a run, made from its results.json alone.

python -m latadj_jax.evaluation.plots runs/quickstart
"""

import json
import sys
from pathlib import Path

from latadj_jax.elimination.alpha import alpha_name
from latadj_jax.evaluation.results import Results
from latadj_jax.extras import require


def plot_acc(acc, curve, fit: str, rates, file: Path) -> None:
    """ACC per layer with its fitted curve, and the elimination profile that follows from it."""
    layers = range(1, len(acc) + 1)
    figure, axis = _pyplot().subplots(figsize=(6, 4), layout="constrained")
    axis.plot(layers, acc, "o", label="ACC, measured (median of the Score Vector)")
    axis.plot(layers, curve, "-", label=f"f(l), {fit} fit")
    axis.plot(layers, rates, "s--", color="0.5", label="profile EP, from f(l) / f(l-1)")
    axis.set(
        xlabel="layer", xticks=list(layers), ylim=(0, 1.05), title="Attention Context Contribution"
    )
    axis.legend()
    _save(figure, file)


def plot_speed(results: Results, file: Path) -> None:
    """The headline metric of each part against measured and expected speedup."""
    metric = results.metrics[0]
    rows = sorted(results.rows, key=lambda row: row.expected_speedup)
    figure, axis = _pyplot().subplots(figsize=(6, 4), layout="constrained")
    for name in rows[0].metrics:
        values = [row.metrics[name][metric] for row in rows]
        (line,) = axis.plot(
            [row.measured_speedup for row in rows], values, "o-", label=f"{name}, measured"
        )
        axis.plot(
            [row.expected_speedup for row in rows],
            values,
            "x--",
            color=line.get_color(),
            alpha=0.5,
            label=f"{name}, expected",
        )
        for row, value in zip(rows, values, strict=True):
            axis.annotate(
                alpha_name(row.alpha),
                (row.measured_speedup, value),
                xytext=(3, 5),
                textcoords="offset points",
            )
    axis.set(xlabel="speedup over dense (points are labelled with alpha)", ylabel=metric)
    axis.set_title(f"{metric} against speed, one checkpoint")
    axis.grid(alpha=0.3)
    axis.margins(0.08, 0.12)
    axis.legend()
    _save(figure, file)


def plot_run(workdir: Path) -> None:
    """Writes speed.png, and acc.png where the profile was measured, beside results.json."""
    found = json.loads((workdir / "results.json").read_text())
    plot_speed(Results.from_json(found), workdir / "speed.png")
    profile = found["profile"]
    if profile["acc"]:
        plot_acc(
            profile["acc"], profile["curve"], profile["fit"], profile["rates"], workdir / "acc.png"
        )


def _save(figure, file: Path) -> None:
    figure.savefig(file, dpi=120)
    _pyplot().close(figure)


def _pyplot():
    require("plots", "matplotlib")
    import matplotlib  # of an extra

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {__doc__.strip().splitlines()[-1]}")
    plot_run(Path(sys.argv[1]))
