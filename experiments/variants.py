"""Other profiles, a floor for short texts, spared separators: no training, equal speed.

    python experiments/variants.py --data $DATA --tasks mrpc,cola,stsb --workdir runs/experiments

Scores the models that finetune.py trained densely (or `--method`), merging what is removed, with
alpha solved so that all texts together are as fast by each variant; and counts the separators
([SEP]) that live to the last layer. Writes experiments/results/TASK-variants.json for tables.py,
and does not score again the variants that are there.
"""

import argparse
import dataclasses
import functools
import json

import finetune
import jax
import jax.numpy as jnp
import numpy as np
import scoring
from runs import RESULTS

from latadj_jax.data.encoded import Encoded
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.ranks import ABOVE
from latadj_jax.elimination.speedup import expected_speedup, largest_alpha
from latadj_jax.elimination.strategies import MERGE, Strategy, register
from latadj_jax.evaluation import metrics
from latadj_jax.model.buckets import default_buckets
from latadj_jax.model.dynamic_counts import simulate
from latadj_jax.model.model import Model
from latadj_jax.training.jobs import labelled
from latadj_jax.training.train import calibrated

SEPARATOR = 102  # BERT's


def separators_last(ids_BL, scores_BL):
    """The paper's score, but separators are removed last."""
    return jnp.where(ids_BL == SEPARATOR, ABOVE, scores_BL)


SPARING = register(Strategy("merge, separators spared", separators_last, merges=True))


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
        return expected_speedup(plan, lengths) >= speed

    alpha = largest_alpha(fast)
    return alpha if fast(alpha) else None


def separators_alive(model: Model, params, part: Encoded, plan: Plan, strategy: str) -> float:
    """The share of separators that enter the last layer."""
    alive = total = 0
    for indices, batch in part.batches(default_buckets(plan.length), 64):
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "weights")}
        counts_by_layer = np.asarray(plan.example_counts(batch["attention_mask"].sum(axis=1)))
        entered_BL = np.asarray(
            simulate(model, params, inputs, counts_by_layer, strategy, plan.skipped).entered[-1]
        )
        ids_BT = np.where(batch["attention_mask"], batch["input_ids"], -1)
        for ids, entered in zip(ids_BT[: len(indices)], entered_BL, strict=False):
            total += (ids == SEPARATOR).sum()
            alive += (ids[entered[entered >= 0]] == SEPARATOR).sum()
    return float(alive / total)


def measure(task: str, args: argparse.Namespace) -> None:
    """Rows of (variant, speed asked for, metrics, separators alive), to the task's file."""
    file = RESULTS / f"{task}-variants.json"
    folder = args.workdir / f"{task}-{args.method}-0" / "model"
    method = finetune.METHODS[args.method]
    settings = finetune.settings_of(task, method, 0, args, str(folder))
    job = labelled.load(dataclasses.replace(settings, workdir=""))
    model, params, layers = job.model, job.params, job.model.config.num_layers
    assert job.tokenizer.sep_token_id == SEPARATOR
    before = json.loads((RESULTS / f"{task}-dense-0.json").read_text())["acc"]
    falling = Profile.falling(layers)
    variants = {
        "falling": (falling, 1, MERGE.name),
        "constant": (Profile.constant(layers), 1, MERGE.name),
        "ACC before": (Profile.from_dict(before), 1, MERGE.name),
        "ACC after": (calibrated(job, settings), 1, MERGE.name),
        "floor 6": (falling, 6, MERGE.name),
        "floor 10": (falling, 10, MERGE.name),
        "separators spared": (falling, 1, SPARING.name),
    }
    _, part, lengths = scoring.scored_texts(model, settings)
    found = {"task": task, "method": args.method, "dtype": args.dtype, "jax": jax.__version__,
             "profiles": {}, "rows": []}  # fmt: skip
    if file.exists():
        found = json.loads(file.read_text())
    for name, (profile, floor, strategy) in variants.items():
        if name in found["profiles"]:
            continue
        found["profiles"][name] = profile.to_dict()
        model = model.replace(profile=profile)
        for speed in finetune.SPEEDS:
            alpha = alpha_of_speed(model, lengths, speed, floor)
            if alpha is None:
                continue
            plan = floored(model, alpha, int(lengths.max()), floor)
            predicted = scoring.predict(model, params, part, plan, strategy)
            alive = separators_alive(model, params, part, plan, strategy)
            found["rows"].append({
                "variant": name, "asked": f"{speed:g}", "alpha": alpha,
                "metrics": metrics.label_metrics(
                    settings.eval.metrics, part.labels, predicted, len(model.config.labels)
                ),
                "expected_speedup": expected_speedup(plan, lengths),
                "separators_alive": alive,
            })  # fmt: skip
            print(task, found["rows"][-1], flush=True)
    finetune.write(file, found)


if __name__ == "__main__":
    parser = finetune.common_arguments(__doc__)
    parser.add_argument("--method", default="dense", choices=finetune.METHODS)
    arguments = parser.parse_args()
    for one in arguments.tasks:
        measure(one, arguments)
