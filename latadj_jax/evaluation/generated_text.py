"""Evaluation of what a seq2seq model writes: BLEU and others of sacrebleu, and speed."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from latadj_jax.data.encoded import Encoded
from latadj_jax.devices.mesh import fetch, place_batch
from latadj_jax.elimination.plan import Plan
from latadj_jax.evaluation.evaluate import evaluate
from latadj_jax.evaluation.results import Results
from latadj_jax.evaluation.settings import EvalSettings
from latadj_jax.extras import require
from latadj_jax.generation.generate import generate
from latadj_jax.model.model import Model, rngs_for


def evaluate_generated(
    model: Model,
    params,
    tokenizer,
    parts: Mapping[str, Encoded],
    references: Mapping[str, Sequence[str]],
    alphas: Sequence[float],
    settings: EvalSettings,
    max_new_tokens: int,
    buckets: Sequence[int],
    count: str = "valid",
    speedups: Sequence[float] = (),
) -> Results:
    """Quality of generated targets and speed of the encoder, dense and at each alpha.

    Args:
      references: of each part, the text that each of its examples should give.
      max_new_tokens: of a target, its end included.

    Returns:
      as `evaluate`; speedups, times and MACs are those of the encoder.
    """

    def score(name: str, part: Encoded, by_bucket: Mapping[int, Plan], label: str):
        texts = write(model, params, tokenizer, part, by_bucket, settings, max_new_tokens, label)
        return text_metrics(settings.metrics, texts, references[name])

    results = evaluate(
        model, params, parts, alphas, settings, buckets, count, score, speedups=speedups
    )
    unit = f"{results.unit}; times, speedups and MACs are those of the encoder"
    return dataclasses.replace(results, unit=unit, num_beams=settings.num_beams)


def write(
    model: Model,
    params,
    tokenizer,
    data: Encoded,
    plans: Mapping[int, Plan],
    settings: EvalSettings,
    max_new_tokens: int,
    progress: str,
) -> list[str]:
    """Writes the text of each example, in order: the most likely tokens, or by beam search.

    Args:
      plans: the plan of each bucket.
      progress: the progress bar's label.
    """
    texts = [""] * len(data.examples)
    batches = list(data.batches(sorted(plans), settings.batch_size))
    for indices, batch in tqdm(batches, desc=progress, unit="batch", leave=False):
        plan = plans[batch["input_ids"].shape[1]]
        tokens_BS = generate(
            model, params, place_batch(batch), None, max_new_tokens,
            num_beams=settings.num_beams, plan=plan, rngs=rngs_for(plan),
        )  # fmt: skip
        written = tokenizer.batch_decode(fetch(tokens_BS), skip_special_tokens=True)
        for i, text in zip(indices, written, strict=False):  # fillers come last
            texts[i] = text.strip()
    return texts


def text_metrics(names: Sequence[str], texts: Sequence[str], references: Sequence[str]) -> dict:
    """BLEU and chrF in percent, as sacrebleu has them by default; exact matches as a share."""
    from sacrebleu.metrics import BLEU, CHRF  # an extra

    def exact_match() -> float:
        return float(np.mean([t == r.strip() for t, r in zip(texts, references, strict=True)]))

    of_name = {
        "bleu": lambda: BLEU().corpus_score(texts, [references]).score,
        "chrf": lambda: CHRF().corpus_score(texts, [references]).score,
        "exact_match": exact_match,
    }
    return {name: of_name[name]() for name in names}


def require_sacrebleu() -> None:
    """Raises ValueError where sacrebleu is not installed."""
    require("seq2seq", "sacrebleu")
