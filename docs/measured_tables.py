"""Tables of the pages of docs/, made from the JSON files in docs/measured that commands wrote.

    python docs/measured_tables.py

writes each table again after the comment that names its file; a test says when one is not what its
file has. The command that writes a file stands beside the table.
"""

import json
from pathlib import Path

from latadj_jax.evaluation import report
from latadj_jax.evaluation.results import Results

DOCS = Path(__file__).parent
MEASURED = DOCS / "measured"


def table(heading: list[str], rows: list[list[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


JOBS = {
    "similarity": "similarity: sentences of STS-B",
    "search": "search: SciFact's documents",
    "rerank": "rerank: WikiQA's pairs",
    "tweets": "tweets",
    "reviews": "reviews of IMDB",
    "tags": "tags: sentences of WNUT17",
}


def jobs_speed_table(found: dict) -> str:
    """Texts a second of each job, of what benchmarks/jobs_speed.py wrote."""
    rows = []
    for name, what in JOBS.items():
        rates = found[name]["texts_per_s"]
        ours = [rates[speed] for speed in ("dense", "2x", "3x")]
        others = [_fastest(rates, kind) for kind in ("torch", "onnxruntime")]
        fastest = rates[found[name]["fastest_other"]]
        rows.append(
            [what, f"{found[name]['tokens']:g}", *(f"{rate:.1f}" for rate in ours), *others]
            + [f"{rate / fastest:.2f}" for rate in ours]
        )
    return table(
        ["job", "tokens, mean", "dense", "2x", "3x", "torch", "onnxruntime",
         "dense / fastest other", "2x", "3x"], rows,
    )  # fmt: skip


def _fastest(rates: dict[str, float], kind: str) -> str:
    """With how it was run, in brackets."""
    name = max((name for name in rates if name.startswith(kind)), key=rates.__getitem__)
    how = name.partition(", ")[2].removeprefix("batches of ")
    return f"{rates[name]:.1f}" + f" ({how})" * bool(how)


def encoder_speed_table(found: dict) -> str:
    """Milliseconds of each runtime, of what benchmarks/encoder_speed.py wrote; and what is gained.

    In brackets: over the dense pass of the same dtype, of an exported graph over the dense graph.
    """
    shapes = {f"{row['batch']}x{row['length']}": {} for row in found["rows"]}
    for row in found["rows"]:
        shapes[f"{row['batch']}x{row['length']}"][row["runtime"], row["name"]] = row
    rows = []
    for runtime, name in next(iter(shapes.values())):
        of = [cells[runtime, name] for cells in shapes.values()]
        rows.append([f"{runtime}, {name}", *map(_ms_and_gain, of)])
    fastest = max(row["speedup_asked"] for row in found["rows"])
    gained = [_least(cells, 1) / _least(cells, fastest) for cells in shapes.values()]
    rows.append(["fastest dense over ours at its fastest", *(f"{gain:.2f}" for gain in gained)])
    return table(["ms", *shapes], rows)


def _ms_and_gain(row: dict) -> str:
    pruned = row["runtime"] in ("ours", "exported") and row["speedup_asked"] > 1
    return f"{row['ms']:.1f} ({row['measured_speedup']:.2f})" if pruned else f"{row['ms']:.1f}"


def _least(cells: dict, speedup: float) -> float:
    """The milliseconds of the fastest runtime; only ours removes word-vectors exactly so."""
    asked = {key: row for key, row in cells.items() if row["speedup_asked"] == speedup}
    ours = {key: row for key, row in asked.items() if key[0] in ("ours", "exported")}
    return min(row["ms"] for row in (asked if speedup == 1 else ours).values())


def operations_table(found: list[dict]) -> str:
    """Milliseconds of a layer's operations, of what benchmarks/layer_costs.py wrote."""
    cases = list(dict.fromkeys((row["dtype"], row["shape"]) for row in found))
    rows: dict[str, list[str]] = {}
    for row in found:
        times = "" if row["count"] == 1 else f"{row['count']} times "
        cells = rows.setdefault(times + row["operation"], [])
        cells.append(f"{row['ours']:.2f} ({row['torch']:.2f})")
    heading = ["ms, in brackets torch", *(f"{shape} {dtype}" for dtype, shape in cases)]
    return table(heading, [[name, *cells] for name, cells in rows.items()])


def run_table(found: dict) -> str:
    """Quality and speed at each alpha, of the results.json of a run."""
    return report.table(Results.from_json(found)) + "\n"


def f1_table(found: dict) -> str:
    """The same of a run that has other metrics beside F1, without these."""
    return run_table({**found, "metrics": ["f1"]})


TABLES = {
    "performance.md": {"jobs_speed.json": jobs_speed_table, "layer_costs.json": operations_table},
    "onnx.md": {"exported_speed.json": encoder_speed_table},
    "jobs.md": {
        "tags.json": f1_table,
        "answers_undecided.json": run_table,
        "answers.json": run_table,
        "answers_late.json": run_table,
    },
}


def with_tables(page: str, text: str) -> str:
    """The page with its tables, each after a comment that names its file."""
    for file, made in TABLES[page].items():
        begin = f"<!-- of measured/{file}, by docs/measured_tables.py -->\n"
        before, after = text.split(begin)
        found = json.loads((MEASURED / file).read_text())
        text = before + begin + made(found) + "\n" + after.split("\n\n", 1)[1]
    return text


if __name__ == "__main__":
    for name in TABLES:
        page = DOCS / name
        page.write_text(with_tables(name, page.read_text()))
