"""Evaluates a run at one alpha or several, beside dense.

    python eval.py --alpha 0.9
    python eval.py --alpha 0.8,0.9,1.0 --workdir runs/bert_sst2

Without --workdir it takes the newest run in runs/, without --alpha the run's own.
"""

import sys
from pathlib import Path

import absl.logging
from absl import app, flags

from latadj_jax.evaluation import evaluate_run
from latadj_jax.report import how, remaining, table
from latadj_jax.runs import newest_run

_ALPHA = flags.DEFINE_list("alpha", [], "speedup coefficients, comma-separated")
_WORKDIR = flags.DEFINE_string("workdir", None, "the folder of a run")


def main(argv: list[str]) -> None:
    absl.logging.set_verbosity(absl.logging.WARNING)
    try:
        if len(argv) > 1:
            raise ValueError(f"{argv[1]!r} is no flag; write --alpha {argv[1]}")
        workdir = Path(_WORKDIR.value) if _WORKDIR.value else newest_run()
        results = evaluate_run(workdir, [parse_alpha(text) for text in _ALPHA.value])
    except (ValueError, OSError) as error:
        sys.exit(f"eval.py: {error}")
    print(f"{workdir}\n\n{table(results)}\n\n{how(results)}\n\n{remaining(results)}")


def parse_alpha(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--alpha takes numbers, e.g. 0.8,0.9; {text!r} is none.") from None


if __name__ == "__main__":
    app.run(main)
