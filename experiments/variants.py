"""Other profiles, a floor for short texts, spared separators: no training, equal speed.

    python experiments/variants.py --data $DATA --tasks mrpc,cola,stsb --workdir runs/experiments

Scores the models that finetune.py trained densely (or `--method`), merging what is removed, with
alpha solved so that all texts together are as fast by each variant; and counts the separators
([SEP]) that live to the last layer. Writes experiments/results/TASK-variants.json for tables.py,
and does not score again the variants that are there.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
from unittest import mock

import finetune
import jax
import jax.numpy as jnp
import numpy as np
import scoring
from runs import RESULTS

from latadj_jax.data.encoded import Encoded
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.strategies import ABOVE
from latadj_jax.evaluation import metrics
from latadj_jax.families import bert
from latadj_jax.model.buckets import default_buckets
from latadj_jax.model.dynamic_counts import simulate
from latadj_jax.model.model import MODULES, Model
from latadj_jax.training.jobs import labelled
from latadj_jax.training.train import calibrated

SEPARATOR = 102  # BERT's


class SparingSeparators(bert.Bert):
    """A BERT that removes separators last, but for CLS, which it never does."""

    def __call__(self, inputs, plan, restore=False, train=False):
        separator_BT = inputs["attention_mask"] & (inputs["input_ids"] == SEPARATOR)

        def ranking(strategy, scores_BL, positions_BL, key):
            of_BL = jnp.take_along_axis(separator_BT, jnp.maximum(positions_BL, 0), axis=1)
            return jnp.where(of_BL & (positions_BL >= 0), ABOVE, scores_BL)

        with mock.patch.object(bert, "ranking", ranking):
            return super().__call__(inputs, plan, restore, train)


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
        return scoring.speedup_of(plan, lengths) >= speed

    alpha = scoring.largest_alpha(fast)
    return alpha if fast(alpha) else None


def separators_alive(model: Model, params, part: Encoded, plan: Plan) -> float:
    """The share of separators that enter the last layer."""
    alive = total = 0
    for indices, batch in part.batches(default_buckets(plan.length), 64):
        inputs = {k: v for k, v in batch.items() if k not in ("labels", "weights")}
        counts_by_layer = np.asarray(plan.example_counts(batch["attention_mask"].sum(axis=1)))
        entered_BL = np.asarray(
            simulate(model, params, inputs, counts_by_layer, "merge").entered[-1]
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
    falling, sparing = Profile.falling(layers), mock.patch.dict(MODULES, bert=SparingSeparators)
    as_it_is = contextlib.nullcontext()
    variants = {
        "falling": (falling, 1, as_it_is),
        "constant": (Profile.constant(layers), 1, as_it_is),
        "ACC before": (Profile.from_dict(before), 1, as_it_is),
        "ACC after": (calibrated(job, settings), 1, as_it_is),
        "floor 6": (falling, 6, as_it_is),
        "floor 10": (falling, 10, as_it_is),
        "separators spared": (falling, 1, sparing),
    }
    _, part, lengths = scoring.scored_texts(model, settings)
    found = {"task": task, "method": args.method, "dtype": args.dtype, "jax": jax.__version__,
             "profiles": {}, "rows": []}  # fmt: skip
    if file.exists():
        found = json.loads(file.read_text())
    for name, (profile, floor, change) in variants.items():
        if name in found["profiles"]:
            continue
        found["profiles"][name] = profile.to_dict()
        model = model.replace(profile=profile)
        for speed in finetune.SPEEDS:
            alpha = alpha_of_speed(model, lengths, speed, floor)
            if alpha is None:
                continue
            plan = floored(model, alpha, int(lengths.max()), floor)
            with change:
                predicted = scoring.predict(model, params, part, plan, "merge")
                alive = separators_alive(model, params, part, plan)
            found["rows"].append({
                "variant": name, "asked": f"{speed:g}", "alpha": alpha,
                "metrics": metrics.label_metrics(
                    settings.eval.metrics, part.labels, predicted, len(model.config.labels)
                ),
                "expected_speedup": scoring.speedup_of(plan, lengths),
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
