"""Other profiles, and a floor for short texts, on models as they are: no training, equal speed.

    python experiments/variants.py --data $DATA --tasks mrpc,cola,stsb --workdir runs/experiments

Scores the models that finetune.py trained densely (or `--method`), merging what is removed, with
alpha solved so that all texts together are as fast by each variant; and counts the separators
([SEP]) that live to the last layer. Writes experiments/results/TASK-variants.json for tables.py.
"""

import argparse
import dataclasses
import functools
import json

import finetune
import jax
import numpy as np

from latadj_jax import labelled, metrics
from latadj_jax.batch import default_buckets
from latadj_jax.evaluation import Encoded
from latadj_jax.model import Model
from latadj_jax.plan import Plan
from latadj_jax.profile import Profile
from latadj_jax.simulate import simulate
from latadj_jax.training import calibrated


class Floored(Plan):
    """A plan whose floor is not that of the last layer, which leaves CLS alone."""

    @functools.cached_property
    def table(self) -> np.ndarray:
        table = super().table.copy()
        table[:, -1] = np.minimum(table[:, -1], 1)
        return table


def floored(model: Model, alpha: float, length: int, floor: int) -> Floored:
    plan = model.plan(alpha, length).for_head()
    return Floored(**{**dataclasses.asdict(plan), "floor": floor})


def alpha_of_speed(model: Model, lengths: np.ndarray, speed: float, floor: int) -> float | None:
    """None where the floor lets no alpha be so fast."""

    def fast(alpha: float) -> bool:
        plan = floored(model, alpha, int(lengths.max()), floor)
        return finetune.speedup_of(plan, lengths) >= speed

    alpha = finetune.largest_alpha(fast)
    return alpha if fast(alpha) else None


def separators_alive(model: Model, params, part: Encoded, plan: Plan, sep: int) -> float:
    """The share of separators that enter the last layer."""
    alive = total = 0
    for indices, batch in part.batches(default_buckets(plan.length), 64):
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "weights")}
        counts_BL = np.asarray(plan.example_counts(batch["attention_mask"].sum(axis=1)))
        entered_BL = np.asarray(simulate(model, params, inputs, counts_BL, "merge").entered[-1])
        ids_BT = np.where(batch["attention_mask"], batch["input_ids"], -1)
        for ids, entered in zip(ids_BT[: len(indices)], entered_BL, strict=False):
            total += (ids == sep).sum()
            alive += (ids[entered[entered >= 0]] == sep).sum()
    return float(alive / total)


def measure(task: str, args: argparse.Namespace) -> dict:
    """Rows of (variant, speed asked for, metrics), and of separators alive."""
    folder = args.workdir / f"{task}-{args.method}-0" / "model"
    method = finetune.METHODS[args.method]
    settings = finetune.settings_of(task, method, 0, args, str(folder))
    job = labelled.load(dataclasses.replace(settings, workdir=""))
    model, params, layers = job.model, job.params, job.model.config.num_layers
    before = json.loads((finetune.ROOT / "results" / f"{task}-dense-0.json").read_text())["acc"]
    variants = {
        "falling": (Profile.falling(layers), 1),
        "constant": (Profile.constant(layers), 1),
        "ACC before": (Profile.from_dict(before), 1),
        "ACC after": (calibrated(job, settings), 1),
        "floor 6": (Profile.falling(layers), 6),
        "floor 10": (Profile.falling(layers), 10),
    }
    _, part, lengths = finetune.scored_texts(model, settings)
    rows = []
    for name, (profile, floor) in variants.items():
        model = model.replace(profile=profile)
        for speed in finetune.SPEEDS:
            alpha = alpha_of_speed(model, lengths, speed, floor)
            if alpha is None:
                continue
            plan = floored(model, alpha, int(lengths.max()), floor)
            predicted = finetune.predict(model, params, part, plan, "merge")
            found = metrics.compute(
                settings.eval.metrics, part.labels, predicted, len(model.config.labels)
            )
            sep = job.tokenizer.sep_token_id
            rows.append({
                "variant": name, "asked": f"{speed:g}", "alpha": alpha, "metrics": found,
                "expected_speedup": finetune.speedup_of(plan, lengths),
                "separators_alive": separators_alive(model, params, part, plan, sep)
                if name == "falling" else None,
            })  # fmt: skip
            print(task, rows[-1], flush=True)
    about = {"task": task, "method": args.method, "dtype": args.dtype, "jax": jax.__version__}
    profiles = {name: profile.to_dict() for name, (profile, _) in variants.items()}
    return {**about, "profiles": profiles, "rows": rows}


if __name__ == "__main__":
    parser = finetune.common_arguments(__doc__)
    parser.add_argument("--method", default="dense", choices=finetune.METHODS)
    arguments = parser.parse_args()
    for one in arguments.tasks:
        result = measure(one, arguments)
        finetune.write(finetune.ROOT / "results" / f"{one}-variants.json", result)
