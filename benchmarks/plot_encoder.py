"""Tables and a picture of what encoder_speed.py measured.

    python benchmarks/plot_encoder.py FILE.json ... --out PICTURE.png

Prints two tables for docs: milliseconds of every variant at every shape, and measured over expected
speedup with the bound. Of what several files have the last counts. The picture shows measured
against expected speedup over our own dense pass.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def main(args: argparse.Namespace) -> None:
    results = [json.loads(Path(file).read_text()) for file in args.files]
    rows = [row for result in results for row in result["rows"]]
    # One machine: the best rates that any of the runs found.
    machines = [result["machine"] for result in results]
    best = {
        dtype: max(machine[dtype]["gflops"] for machine in machines if dtype in machine)
        for dtype in ("float32", "bfloat16")
        if any(dtype in machine for machine in machines)
    }
    bandwidth = max(result["machine"]["bytes_per_s"] for result in results)
    print(f"best rates: {best} GFLOP/s, {bandwidth / 1e9:.1f} GB/s\n")
    for result in results:
        for row in result["rows"]:
            if row["dtype"] in best:
                row["arithmetic_ms"] *= (
                    result["machine"][row["dtype"]]["gflops"] / best[row["dtype"]]
                )
                row["reading_ms"] *= result["machine"]["bytes_per_s"] / bandwidth
                row["of_the_bound"] = (row["arithmetic_ms"] + row["reading_ms"]) / row["ms"]
    by = {(f"{r['batch']}x{r['length']}", r["runtime"], r["name"]): r for r in rows}
    rows = list(by.values())
    shapes = list(dict.fromkeys(f"{row['batch']}x{row['length']}" for row in rows))
    variants = list(dict.fromkeys((row["runtime"], row["name"]) for row in rows))

    print(f"| ms | {' | '.join(shapes)} |\n{'|---' * (len(shapes) + 1)}|")
    for runtime, name in sorted(variants, key=lambda v: (v[1].split()[0], v[0] != "ours")):
        cells = [by.get((shape, runtime, name)) for shape in shapes]
        text = " | ".join(f"{row['ms']:.1f}" if row else "" for row in cells)
        print(f"| {runtime}, {name} | {text} |")

    print("\n| ours | shape | expected | measured | of it | reading / arithmetic | of the bound |")
    print("|---" * 7 + "|")
    pruned = [row for row in rows if row["runtime"] == "ours" and row["speedup_asked"] > 1]
    pruned.sort(
        key=lambda r: (r["batch"] * r["length"], r["batch"], r["dtype"], r["speedup_asked"])
    )
    for row in pruned:
        share = row["reading_ms"] / row["arithmetic_ms"]
        print(
            f"| {row['name']} | {row['batch']}x{row['length']} | {row['expected_speedup']:.2f} |"
            f" {row['measured_speedup']:.2f} |"
            f" {row['measured_speedup'] / row['expected_speedup']:.2f} | {share:.2f} |"
            f" {row['of_the_bound']:.2f} |"
        )
    draw(pruned, shapes, Path(args.out))


def draw(pruned: list[dict], shapes: list[str], file: Path) -> None:
    dtypes = list(dict.fromkeys(row["dtype"] for row in pruned))
    figure, axes = plt.subplots(
        1,
        len(dtypes),
        figsize=(5 * len(dtypes) + 1.5, 4),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    for axis, dtype in zip(axes[0], dtypes, strict=True):
        axis.set_prop_cycle(color=plt.get_cmap("tab20").colors)
        for shape in shapes:
            points = [(1.0, 1.0)] + [
                (row["expected_speedup"], row["measured_speedup"])
                for row in pruned
                if row["dtype"] == dtype and f"{row['batch']}x{row['length']}" == shape
            ]
            axis.plot(*zip(*points, strict=True), "o-", label=shape)
        highest = max(row["expected_speedup"] for row in pruned)
        axis.plot([1, highest], [1, highest], "k--", linewidth=1, label="as expected")
        axis.set(xlabel="expected speedup", title=dtype)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("measured speedup over our dense pass")
    figure.legend(*axes[0][-1].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--out", required=True)
    main(parser.parse_args())
