"""How removed tokens are best read by a run that answers for every token: as they left, or joined.

python experiments/removed_as.py runs/ner_wnut17 --speedup 1.5,2

Evaluates the run's model both ways; it was trained with one of them, which its own line names.
"""

import argparse
from pathlib import Path

import latadj_jax
from latadj_jax.elimination.plan import REMOVED
from latadj_jax.evaluation.report import table
from latadj_jax.training.jobs.registry import kind_of
from latadj_jax.training.run_folder import load_settings, model_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--speedup", default="1.5,2")
    args = parser.parse_args()
    speedups = tuple(map(float, args.speedup.split(",")))
    settings, folder = load_settings(args.run), model_of(args.run)
    model, params = latadj_jax.from_pretrained(folder)
    tokenizer = latadj_jax.load_tokenizer(str(folder))
    print(f"trained with {model.removed_as!r}")
    for way in REMOVED:
        tried = model.replace(removed_as=way)
        evaluate = kind_of(tried.record).evaluator(settings, tried, tokenizer)
        results = evaluate(tried, params, alphas=(), speedups=speedups)
        print(f"\nread as {way!r}\n\n{table(results)}")


if __name__ == "__main__":
    main()
