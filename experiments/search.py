"""Searches the profile at which a dense model's outputs change least, for its speed.

    python experiments/search.py --data $DATA --tasks stsb --workdir runs/experiments

Differential evolution, on training texts without their labels, for a model that finetune.py has
trained densely: first the rates of all layers but the last, which leaves CLS alone, with alpha for
an expected speedup of 2 and of 2.9; then, with these rates, the exponents of alpha at 2.9. What is
minimised is the distance of the logits from those of the dense pass, as a share of that with
`Profile.falling`, geometric mean over the speeds. The methods `dense_searched` and `all_searched`
of finetune.py use what it writes to experiments/results/TASK-search.json; what is there is not
searched again.
"""

import argparse
import dataclasses
import time

import finetune
import jax
import numpy as np
import scoring
from scipy.optimize import differential_evolution
from scipy.special import log_softmax, softmax

from latadj_jax.data.encoded import Encoded
from latadj_jax.elimination.plan import Plan
from latadj_jax.elimination.profile import Profile
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.training.jobs import labelled

LOWEST = 0.3  # of the proportions of rates
LAST = 1e-6  # the last layer's rate: CLS alone


class Texts:
    """A model on some training texts: how far its logits are from those of its dense pass."""

    def __init__(self, task: str, args: argparse.Namespace):
        folder = args.workdir / f"{task}-{args.method}-{args.seed}" / "model"
        method = finetune.METHODS[args.method]
        settings = finetune.settings_of(task, method, args.seed, args, str(folder))
        examples = labelled.load(dataclasses.replace(settings, workdir="")).data.examples
        rng = np.random.default_rng(0)
        examples = [examples[i] for i in rng.permutation(len(examples))]
        total = np.cumsum([len(example["input_ids"]) for example in examples])
        examples = examples[: np.searchsorted(total, args.tokens) + 1]
        model, self.params = from_pretrained(folder)
        self.model = model.replace(dtype=args.dtype, strategy="merge")
        self.part = Encoded(examples, np.zeros(len(examples), np.int32))
        self.lengths = np.array([len(example["input_ids"]) for example in examples])
        self.dense = self.logits(self.model.plan(None, int(self.lengths.max())))

    def logits(self, plan: Plan) -> np.ndarray:
        """Of each text, [N, labels]; in small batches, as these are few texts."""
        buckets = (16, *range(32, 513, 32))
        return scoring.logits_of(self.model, self.params, self.part, plan, "merge", buckets, 16)

    def alpha(self, profile: Profile, speed: float) -> float:
        """The alpha at which these texts are expected to be so many times as fast."""
        return self.model.replace(profile=profile).solve_alpha(self.lengths, speed, reads_all=False)

    def distance(self, profile: Profile, alpha: float) -> float:
        """Mean squared difference of a regression; Kullback-Leibler divergence of classes."""
        plan = self.model.replace(profile=profile).plan(alpha, int(self.lengths.max()))
        pruned = self.logits(plan)
        if self.model.record.labels == "value":
            return float(np.mean((self.dense - pruned) ** 2))
        log_dense, log_pruned = log_softmax(self.dense, axis=-1), log_softmax(pruned, axis=-1)
        each = softmax(self.dense, axis=-1) * (log_dense - log_pruned)
        return float(each.sum(axis=-1).mean())


def with_rates(values: np.ndarray) -> Profile:
    """Rates in these proportions."""
    return Profile((*values / values.max(), LAST), fit="searched")


def with_exponents(rates, values: np.ndarray) -> Profile:
    """These rates with exponents in these proportions."""
    return Profile(rates, exponents=(*values / values.mean(), 1.0), fit="searched")


def evolve(texts: Texts, family, bounds, first, speeds, args) -> tuple[Profile, dict]:
    """The best profile of a family of vectors, and how the search went.

    Args:
      family: from a vector of as many numbers as `first`, each within `bounds`, to a profile.
      speeds: expected speedups at which the distances count.
    """
    tried, begun = {}, time.perf_counter()

    def distances(profile: Profile) -> np.ndarray:
        return np.array([texts.distance(profile, texts.alpha(profile, s)) for s in speeds])

    falling = distances(Profile.falling(len(first) + 1))

    def cost(values: np.ndarray) -> float:
        profile = family(np.asarray(values))
        if profile not in tried:
            tried[profile] = distances(profile)
        return float(np.mean(np.log(tried[profile] / falling)))

    found = differential_evolution(
        cost, [bounds] * len(first), x0=first, polish=False, init="sobol",
        rng=np.random.default_rng(0), popsize=args.population, maxiter=args.generations,
    )  # fmt: skip
    profile = family(found.x)
    how = {
        "speeds": speeds, "distances": tried[profile].tolist(), "falling": falling.tolist(),
        "share": float(np.exp(found.fun)), "candidates": len(tried),
        "minutes": (time.perf_counter() - begun) / 60,
    }  # fmt: skip
    print(profile, how, flush=True)
    return profile, how


def search(task: str, args: argparse.Namespace) -> dict:
    """The profile with rates and exponents, and how both searches went."""
    texts = Texts(task, args)
    falling = np.array(Profile.falling(texts.model.config.num_layers).rates[:-1])
    profile, rates = evolve(texts, with_rates, (LOWEST, 1.0), falling, (2.0, 2.9), args)
    # Exponents change nothing at alpha 1: a speed of 2.
    at_two = np.minimum(1.0, texts.alpha(profile, 2.0) * np.array(profile.rates[:-1]))
    profile, exponents = evolve(
        texts, lambda values: with_exponents((*at_two, LAST), values), (0.2, 1.0),
        np.ones_like(falling), (2.9,), args,
    )  # fmt: skip
    return {
        "task": task, "method": args.method, "seed": args.seed, "tokens": args.tokens,
        "profile": profile.to_dict(), "rates": rates, "exponents": exponents,
        "dtype": args.dtype, "jax": jax.__version__,
    }  # fmt: skip


if __name__ == "__main__":
    parser = finetune.common_arguments(__doc__)
    parser.add_argument("--method", default="dense", choices=finetune.METHODS)
    parser.add_argument("--seed", type=int, default=0, help="of the model's training")
    parser.add_argument("--tokens", type=int, default=2400, help="of each task's texts, about")
    parser.add_argument("--population", type=int, default=3, help="times the number of rates")
    parser.add_argument("--generations", type=int, default=8)
    arguments = parser.parse_args()
    for one in arguments.tasks:
        file = finetune.ROOT / "results" / f"{one}-search.json"
        if not file.exists():
            finetune.write(file, search(one, arguments))
