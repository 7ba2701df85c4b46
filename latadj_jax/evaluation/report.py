"""A run's results as files: results.json, report.md and the pictures."""

import json
from pathlib import Path

from latadj_jax.atomic_file import write_whole
from latadj_jax.elimination.alpha import alpha_name
from latadj_jax.evaluation.plots import plot_run
from latadj_jax.evaluation.results import Results
from latadj_jax.model.model import Model


def write_report(workdir: Path, results: Results, model: Model) -> None:
    """Writes results.json, and from it report.md, speed.png and acc.png."""
    own = {"training_alpha": model.alpha, "profile": model.profile.to_dict()}
    found = {**results.to_json(), **own}
    write_whole(workdir / "results.json", json.dumps(found, indent=2) + "\n")
    plot_run(workdir)
    pictures = ["![quality against speed](speed.png)"]
    if model.profile.acc:
        pictures.append("![ACC per layer and its fit](acc.png)")
    trained = "dense" if model.alpha is None else f"at alpha {model.alpha:g}"
    text = [
        f"# {workdir.name}",
        f"Fine-tuned {trained}; every row below is the same checkpoint.",
        table(results),
        how(results),
        *pictures,
        remaining(results),
    ]
    write_whole(workdir / "report.md", "\n\n".join(text) + "\n")


def summary(source: str, results: Results) -> str:
    """What a command prints of an evaluation."""
    asked = [f"Speedup {speedup:g} is alpha {alpha:g}." for speedup, alpha in results.asked or ()]
    return "\n\n".join([source, table(results), *asked, how(results), remaining(results)])


def table(results: Results) -> str:
    """Markdown table, a row per alpha: quality, speed, work, and a decoder's cache."""
    first = results.rows[0]
    names = [(part, metric) for part in first.metrics for metric in results.metrics]
    several = len(first.metrics) > 1
    columns = {"alpha": lambda row: alpha_name(row.alpha)}
    for part, metric in names:
        heading = f"{part} {metric}" if several else metric
        columns[heading] = lambda row, p=part, m=metric: f"{row.metrics[p][m]:.4f}"
    if any(row.skipped for row in results.rows):
        columns["layers"] = lambda row: str(results.num_layers - len(row.skipped or ()))
    columns["expected speedup"] = lambda row: f"{row.expected_speedup:.2f}"
    if first.measured_speedup is not None:
        columns["measured speedup"] = lambda row: f"{row.measured_speedup:.2f}"
    columns["MACs per example"] = lambda row: f"{row.macs:.3g}"
    if first.cache_bytes is not None:
        columns["cache, MB"] = lambda row: f"{row.cache_bytes / 1e6:.2f}"
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in results.rows:
        lines.append("| " + " | ".join(cell(row) for cell in columns.values()) + " |")
    return "\n".join(lines)


def how(results: Results) -> str:
    """What the numbers of the table are."""
    sizes = ", ".join(f"{name}: {n}" for name, n in results.examples.items())
    measured = ""
    if results.timing is not None:
        measured = f" Measured: {results.timing}, dense and pruned in turns."
    return (
        f"{sizes} {results.unit}.{measured} Computed in {results.dtype} on "
        f"{results.device}, jax {results.jax}. Expected speedup and "
        f"multiply-accumulates (MACs) are {results.work}; counts follow each example's "
        f"{results.count} length, strategy {results.strategy}."
    )


def remaining(results: Results) -> str:
    """Markdown table, a row per layer: mean share of an example's word-vectors left after it."""
    rows = results.rows
    alphas = [alpha_name(row.alpha) for row in rows]
    lines = [
        "Share of an example's word-vectors that remain after each layer, by alpha:",
        "",
        "| layer | " + " | ".join(alphas) + " |",
        "|---" * (len(rows) + 1) + "|",
    ]
    for layer in range(results.num_layers):
        shares = " | ".join(
            "skipped" if layer + 1 in (row.skipped or ()) else f"{row.remaining[layer]:.2f}"
            for row in rows
        )
        lines.append(f"| {layer + 1} | {shares} |")
    return "\n".join(lines)
