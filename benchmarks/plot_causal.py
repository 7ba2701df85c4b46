"""Perplexity against the measured time to the first token, a line per variant.

    python benchmarks/plot_causal.py --quality FILE.json ... --speed FILE.json ... \
        --title "MODEL, TEXT" --out PICTURE.png

The files are those of causal_strategies.py and causal_speed.py (prompts of 512 tokens).
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def main(args: argparse.Namespace) -> None:
    quality = {}
    for file in args.quality:
        for row in json.loads(Path(file).read_text())["rows"]:
            quality[row["variant"], row["speedup"]] = row["perplexity"]
    times = {}
    for file in args.speed:
        for row in json.loads(Path(file).read_text())["rows"]:
            if row["length"] == 512 and "variant" in row:
                times[row["variant"], row["speedup"]] = row["first_token_ms"]
    dense = ("dense", 1)
    figure, axis = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for variant in sorted({variant for variant, _ in times} - {"dense"}):
        points = [dense, *sorted(key for key in times if key[0] == variant and key in quality)]
        axis.plot([times[p] for p in points], [quality[p] for p in points], "o-", label=variant)
        for point in points[1:]:
            axis.annotate(
                f"{point[1]:g}x",
                (times[point], quality[point]),
                xytext=(3, 5),
                textcoords="offset points",
                fontsize=8,
            )
    axis.plot([times[dense]], [quality[dense]], "ks", label="dense")
    axis.set(
        xlabel="time to the first token of a 512-token prompt, ms (measured)",
        ylabel="perplexity of the 128 tokens after it",
        title=f"{args.title} (labels: expected speedup)",
    )
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(args.out, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quality", nargs="+", required=True)
    parser.add_argument("--speed", nargs="+", required=True)
    parser.add_argument("--title", required=True)
    parser.add_argument("--out", required=True)
    main(parser.parse_args())
