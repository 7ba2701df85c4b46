"""A run's model evaluated with other values of one of its attributes, without training it again.

    python experiments/replaced.py runs/ner_wnut17 removed_as left joined --speedup 1.5,2
    python experiments/replaced.py runs/qa_squad protected 1 32 --speedup 1.5 --examples 400
    python experiments/replaced.py runs/qa_squad strategy merge distinct score --speedup 1.5

`removed_as`: how tokens that were removed are read where each has an answer. `protected`: how many
tokens are never removed, CLS and the first ones of a question. `profile`: files of Profile.save.
The alphas are those of the speedups with each value; the value of the training is named first. The
computation has the dtype of the training.
"""

import argparse
import dataclasses
from pathlib import Path

import latadj_jax
from latadj_jax.evaluation.report import table
from latadj_jax.training.jobs.registry import kind_of
from latadj_jax.training.run_folder import load_settings, model_of

READ = {"removed_as": str, "strategy": str, "protected": int, "profile": latadj_jax.Profile.load}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("attribute", choices=(*READ,))
    parser.add_argument("values", nargs="+")
    parser.add_argument("--speedup", default="1.5,2")
    parser.add_argument("--examples", type=int, default=0, help="evaluated; 0 = all")
    args = parser.parse_args()
    speedups = tuple(map(float, args.speedup.split(",")))
    settings, folder = load_settings(args.run), model_of(args.run)
    data = dataclasses.replace(settings.data, max_eval_examples=args.examples)
    settings = dataclasses.replace(settings, data=data)
    model, params = latadj_jax.from_pretrained(folder, dtype=settings.model.dtype)
    tokenizer = latadj_jax.load_tokenizer(str(folder))
    print(f"trained with {args.attribute} {getattr(model, args.attribute)!r}")
    for value in args.values:
        tried = model.replace(**{args.attribute: READ[args.attribute](value)})
        evaluate = kind_of(tried.record).evaluator(settings, tried, tokenizer)
        results = evaluate(tried, params, alphas=(), speedups=speedups)
        print(f"\n{args.attribute} {value}\n\n{table(results)}", flush=True)


if __name__ == "__main__":
    main()
