"""Measured speedups on the tasks' evaluation texts, beside the expected ones.

    python experiments/speed.py --data $DATA --workdir runs/experiments

Times the models that finetune.py trained for all speeds (or `--method`), in batches of 32, each
bucket in turns with the dense pass; writes experiments/results/TASK-speed_DTYPE.json for tables.py.
Leave the machine alone meanwhile.
"""

import argparse

import finetune
import jax
import scoring

from latadj_jax.data.encoded import buckets_of
from latadj_jax.evaluation.evaluate import evaluate
from latadj_jax.pretrained.load import from_pretrained


def measure(task: str, args: argparse.Namespace) -> dict:
    """Rows of (counting, speed asked for, expected speedup, measured speedup)."""
    folder = args.workdir / f"{task}-{args.method}-{args.seed}" / "model"
    method = finetune.METHODS[args.method]
    settings = finetune.settings_of(task, method, args.seed, args, str(folder))
    model, params = from_pretrained(folder, dtype=args.dtype)  # as served
    name, part, lengths = scoring.scored_texts(model, settings)
    rows = []
    for count in ("valid", "padded"):
        padded = settings.data.max_length if count == "padded" else 0
        alphas = {
            model.solve_alpha(padded or lengths, s, reads_all=False): s for s in finetune.SPEEDS
        }
        found = evaluate(
            model, params, {name: part}, list(alphas), settings.eval,
            buckets_of(settings.data, count), count, score=lambda *_: {},
        )  # fmt: skip
        for row in found.rows[1:]:
            rows.append({
                "count": count, "asked": f"{alphas[row.alpha]:g}",
                "expected_speedup": row.expected_speedup,
                "measured_speedup": row.measured_speedup,
            })  # fmt: skip
    about = {"task": task, "method": args.method, "dtype": args.dtype, "jax": jax.__version__}
    return {**about, "rows": rows}


if __name__ == "__main__":
    parser = finetune.common_arguments(__doc__)
    parser.add_argument("--method", default="all", choices=finetune.METHODS)
    parser.add_argument("--seed", type=int, default=0, help="of the model's training")
    arguments = parser.parse_args()
    for one in arguments.tasks:
        found = measure(one, arguments)
        finetune.write(finetune.ROOT / "results" / f"{one}-speed_{arguments.dtype}.json", found)
        print(one, found["rows"], flush=True)
