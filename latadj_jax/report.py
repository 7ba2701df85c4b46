"""A run's results as files: results.json, report.md and the pictures."""

import json
from pathlib import Path

from latadj_jax.model import Model
from latadj_jax.plots import plot_run


def write_report(workdir: Path, results: dict, model: Model) -> None:
    """Writes results.json, and from it report.md, speed.png and acc.png."""
    results = {**results, "training_alpha": model.alpha, "profile": model.profile.to_dict()}
    (workdir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
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
    (workdir / "report.md").write_text("\n\n".join(text) + "\n")


def table(results: dict) -> str:
    """Markdown table, a row per alpha: quality, speed, work."""
    names = [
        (part, metric) for part in results["rows"][0]["metrics"] for metric in results["metrics"]
    ]
    several = len(results["rows"][0]["metrics"]) > 1
    headings = [f"{part} {metric}" if several else metric for part, metric in names]
    columns = ["alpha", *headings, "expected speedup", "measured speedup", "MACs per example"]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in results["rows"]:
        cells = [
            "dense" if row["alpha"] is None else f"{row['alpha']:g}",
            *(f"{row['metrics'][part][metric]:.4f}" for part, metric in names),
            f"{row['expected_speedup']:.2f}",
            f"{row['measured_speedup']:.2f}",
            f"{row['macs']:.3g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def how(results: dict) -> str:
    """What the numbers of the table are."""
    sizes = ", ".join(f"{name}: {n}" for name, n in results["examples"].items())
    return (
        f"{sizes} examples. Measured: median wall-clock time of a batch of "
        f"{results['batch_size']} at each padded length, {results['dtype']}, dense and pruned in "
        f"turns, weighted by the number of batches, on "
        f"{results['device']}, jax {results['jax']}. Expected speedup and multiply-accumulates "
        f"(MACs) are those of the padded lengths that were run; counts follow each example's "
        f"{results['count']} length, strategy {results['strategy']}."
    )


def remaining(results: dict) -> str:
    """Markdown table: mean share of an example's word-vectors left after each layer."""
    layers = range(1, results["num_layers"] + 1)
    lines = [
        "Share of an example's word-vectors that remain after each layer:",
        "",
        "| alpha | " + " | ".join(f"layer {n}" for n in layers) + " |",
        "|---" * (results["num_layers"] + 1) + "|",
    ]
    for row in results["rows"]:
        alpha = "dense" if row["alpha"] is None else f"{row['alpha']:g}"
        shares = " | ".join(f"{share:.2f}" for share in row["remaining"])
        lines.append(f"| {alpha} | {shares} |")
    return "\n".join(lines)
