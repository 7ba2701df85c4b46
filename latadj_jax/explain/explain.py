"""Which word-vectors live until which layer: a page of coloured text, with a slider for alpha.

latadj explain "what a lovely flight" --html lives.html
"""

import html
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from latadj_jax.atomic_file import write_whole
from latadj_jax.checks import check_fits
from latadj_jax.elimination.alpha import check_alpha
from latadj_jax.elimination.speedup import expected_speedup
from latadj_jax.families.output import Output
from latadj_jax.model.buckets import bucket_of, default_buckets, pad
from latadj_jax.model.dynamic_counts import simulate
from latadj_jax.model.inputs import check_ids
from latadj_jax.model.model import Model
from latadj_jax.pretrained.tokenizers import check_fast, without_surrogates
from latadj_jax.serving import tags
from latadj_jax.tasks.tags import TAGS

SPEEDUPS = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
AT_ONCE = 8  # texts of one pass
TEMPLATE = Path(__file__).with_name("page.html")


def explain(
    model: Model,
    params,
    tokenizer,
    texts: Sequence,
    alphas: Sequence[float] = (),
    speedups: Sequence[float] = (),
) -> dict:
    """What is removed where, and what is answered, of each text at each alpha; JSON-ready.

    Args:
      texts: each a string, or a pair of strings.
      alphas: dense is added; by default those of expected speedups from 1.25 to 4, and the model's.
      speedups: in place of alphas, over dense, expected at the padded length of the longest text.

    Returns:
      {"layers", "settings", "texts"}: a setting has `alpha` (None is dense, the first), `speedup`,
      expected at the padded length, and `skipped`, layers (from 1) that do not run. A text has
      `pieces`, for each token what stands before it and its own text, and per setting `lived`
      (after how many layers each token is still there, 0 to all), `counts` (tokens left after each
      layer) and `answer`.

    Raises:
      ValueError: no text, one that is empty or longer than the model reads, or an alpha that
        cannot work.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list of texts; it is one string.")
    if not texts:
        raise ValueError("there is no text to explain.")
    check_fast(tokenizer, "explanations")
    model = model.encoder  # of one that writes nobody reads the logits
    examples, pieces = zip(*(_tokens(model, tokenizer, text) for text in texts), strict=True)
    longest = max(len(example["input_ids"]) for example in examples)
    length = bucket_of(longest, default_buckets(min(model.config.max_positions, 2 * longest)))
    for alpha in alphas:
        check_alpha(alpha)
    asked = (*alphas, *(model.solve_alpha(length, speedup) for speedup in speedups))
    chosen = sorted({*(asked or _default_alphas(model, length))} - {None}, reverse=True)
    settings, found = [], [{"pieces": p, "lived": [], "counts": [], "answer": []} for p in pieces]
    for alpha in tqdm((None, *chosen), desc="explain", unit="alpha", leave=False):
        plan = model.plan(alpha, length)
        settings.append(
            {"alpha": alpha, "speedup": expected_speedup(plan), "skipped": plan.skipped}
        )
        for start in range(0, len(examples), AT_ONCE):
            some = list(examples[start : start + AT_ONCE])
            batch = pad(some + some[:1] * (min(AT_ONCE, len(examples)) - len(some)), length)
            out = simulate(model, params, batch, plan)
            for n, example in enumerate(some):
                there = _there(out, n, len(example["input_ids"]))
                text = found[start + n]
                text["lived"].append(there.sum(axis=0).tolist())
                text["counts"].append(there.sum(axis=1).tolist())
                text["answer"].append(_answer(model, tokenizer, texts[start + n], out, n))
    return {"layers": model.config.num_layers, "settings": settings, "texts": found}


def write_page(path: str | os.PathLike, explained: dict, title: str) -> None:
    """Writes what `explain` found as one HTML file that needs nothing else, and no network."""
    data = json.dumps(explained).replace("<", "\\u003c")  # no text of a user's ends the script
    filled = {"TITLE": html.escape(without_surrogates(title)), "DATA": data}
    page = re.sub("TITLE|DATA", lambda match: filled[match[0]], TEMPLATE.read_text("utf-8"))
    write_whole(path, page)


def _tokens(model: Model, tokenizer, text) -> tuple[dict, list[tuple[str, str]]]:
    """The inputs of one text, and [what stands before it, its own text] of each token."""
    parts = [without_surrogates(part) for part in ((text,) if isinstance(text, str) else text)]
    encoded = tokenizer(*parts, return_offsets_mapping=True, verbose=False)
    ids = encoded["input_ids"]
    if not ids or not all(part.strip() for part in parts):
        raise ValueError("a text to explain is empty.")
    what = f"the text {parts[0][:30]!r}... has {len(ids)} tokens"
    check_fits(len(ids), model.config.max_positions, what, "shorten it")
    example = {
        key: np.array(encoded[key], np.int32)
        for key in ("input_ids", "token_type_ids")
        if key in encoded and key in model.input_ranges
    }
    check_ids([example], model.input_ranges, lambda _: f"the text {parts[0][:30]!r}...")
    pieces, ends = [], [0] * len(parts)
    names = tokenizer.convert_ids_to_tokens(ids)
    for name, part, (start, end) in zip(
        names, encoded.sequence_ids(), encoded["offset_mapping"], strict=True
    ):
        if part is None:  # a special token
            pieces.append((" ", name))
        else:  # several tokens of one character all have its place: the first shows it
            shown = max(start, ends[part])
            pieces.append((parts[part][ends[part] : shown], parts[part][shown:end]))
            ends[part] = max(end, ends[part])
    return example, pieces


def _default_alphas(model: Model, length: int) -> list[float]:
    alphas = [model.alpha] if model.alpha is not None else []
    for speedup in SPEEDUPS:
        try:
            alphas.append(model.solve_alpha(length, speedup))
        except ValueError:  # out of reach of so short a text
            break
    return alphas


def _there(out: Output, row: int, length: int) -> np.ndarray:
    """Whether each token is there after each layer: bool [number of layers, length]."""
    after = (*out.entered[1:], out.left)  # not `positions`, where heads have all tokens restored
    there = np.zeros((len(after), length), bool)
    for layer, positions_BL in enumerate(after):
        positions = np.asarray(positions_BL[row])
        there[layer, positions[positions >= 0]] = True
    return there


def _answer(model: Model, tokenizer, text, out: Output, row: int) -> str:
    if model.record is TAGS and isinstance(text, str):
        return _entities(model, tokenizer, text, out, row)
    if model.record.answer is None:
        return ""
    answer = model.record.answer(model.config.labels, np.asarray(out.logits[row]))
    labels = (f"{label} ({probability:.2f})" for label, probability in answer.labels)
    return ", ".join((*labels, *(f"{value:.3f}" for value in answer.values)))


def _entities(model: Model, tokenizer, text: str, out: Output, row: int) -> str:
    (request,) = tags.requests(tokenizer, [text], model.config.max_positions, truncate=False)
    logits_TC = np.asarray(out.logits[row])[: len(request.example["input_ids"])]
    found = tags.found(tokenizer, model.config.labels, request, logits_TC, "simple")
    return ", ".join(
        f"{request.text[entity['start'] : entity['end']]}: {entity['entity_group']} "
        f"({entity['score']:.2f})"
        for entity in found
    )
