"""The tags of texts: entities with their places, as transformers' token-classification pipeline
gives them, or one tag for each word."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from latadj_jax.errors import TextError
from latadj_jax.pretrained.tokenizers import check_fast, without_surrogates
from latadj_jax.pretrained.words import encode_words
from latadj_jax.serving.job import Job
from latadj_jax.serving.requests import check_task, checked
from latadj_jax.tasks.tags import OUTSIDE, TAGS

# What makes one row of scores [C] of those of a word's pieces [P, C].
VOTES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "first": lambda scores_PC: scores_PC[0],
    "average": lambda scores_PC: scores_PC.mean(axis=0),
    "max": lambda scores_PC: scores_PC[scores_PC.max(axis=1).argmax()],
}
AGGREGATIONS = ("none", "simple", *VOTES)


@dataclasses.dataclass(frozen=True, eq=False)
class Request:
    """A text as it is read: a string, or words.

    Attributes:
      example: the inputs of the model, each [T].
      spans: of each token where it begins and ends in the string, (0, 0) of a special token.
      specials: whether each token is a special one.
      words_T: of words: the number of the word that each token is part of, -1 of a special one.
    """

    text: str | tuple[str, ...]
    example: dict[str, np.ndarray]
    spans: Sequence[tuple[int, int]] = ()
    specials: Sequence[bool] = ()
    words_T: np.ndarray | None = None


def tag(
    engine, texts: Sequence, aggregation: str = "simple", **asked: Any
) -> list[list[dict[str, str | int | float]]]:
    """Finds the entities in each text.

    For a string they are what transformers' token-classification pipeline gives: dicts of
    "entity_group", "score" (in [0, 1]), "word", "start" and "end" (characters), without "O". For a
    list of words there is a dict for each word, "O" included: "entity", "score", "index" and
    "word". A word that was not read, because it was cut or has no token, is "O" with score 0.

    Args:
      texts: each a string, or a list of words.
      aggregation: how tokens of a string become entities. "none": a dict for each token, with
        "entity" and "index". "simple": neighbours of one type are one entity. "first", "average",
        "max": the same, but first the tokens of a word all get the tag of its first token, of the
        mean of their scores, or of the highest score. A word of a list always has one tag: by its
        first token, unless "average" or "max" is asked for.
      **asked: alpha, speedup, latency_ms or infeasible, as in a call of the engine.

    Raises:
      ValueError: a model for another task, a text that does not fit.
    """
    asking = job(engine, texts, aggregation)
    return asking.answer(engine.run_encoded(asking.encode, **asked))


def job(engine, texts: Sequence, aggregation: str = "simple", truncate: bool | None = None) -> Job:
    """As `tag`, to be run in another way.

    Args:
      truncate: whether texts that are too long are cut; by default as the engine does.
    """
    model, read = engine.model, []
    check_task(model, TAGS, "tags")
    if aggregation not in AGGREGATIONS:
        raise ValueError(
            f"aggregation must be one of {', '.join(AGGREGATIONS)}; it is {aggregation!r}."
        )
    truncate = engine.truncate if truncate is None else truncate

    def encode() -> list[dict[str, np.ndarray]]:
        longest = engine.buckets[-1]
        read[:] = requests(engine.tokenizer, texts, longest, truncate)
        inputs = [_inputs(request, engine.keys) for request in read]
        return checked(inputs, model.input_ranges, longest)

    def answer(logits) -> list[list[dict]]:
        return [
            found(engine.tokenizer, model.config.labels, request, logits_TC, aggregation)
            for request, logits_TC in zip(read, logits, strict=True)
        ]

    return Job(encode, answer)


def _inputs(request: Request, keys: Sequence[str]) -> dict[str, np.ndarray]:
    unmarked_T = np.zeros_like(request.example["input_ids"])
    return {key: request.example.get(key, unmarked_T) for key in keys}


def requests(tokenizer, texts: Sequence, max_length: int, truncate: bool) -> list[Request]:
    """Texts as the tokenizer reads them; one of more than `max_length` tokens is cut, if it may be.

    Args:
      texts: each a string or a list of words.

    Raises:
      ValueError: what is neither, or an empty word.
    """
    if isinstance(texts, str):
        raise ValueError("texts must be a list of texts; it is one string.")
    check_fast(tokenizer, "tags")
    texts = list(texts)
    strings = [n for n, text in enumerate(texts) if isinstance(text, str)]
    others = [n for n, text in enumerate(texts) if not isinstance(text, str)]
    for n in others:
        _check_words(n, texts[n])
    found: list = [None] * len(texts)
    whole = [without_surrogates(texts[n]) for n in strings]
    cut = max_length if truncate else None
    for n, request in zip(strings, _of_strings(tokenizer, whole, cut), strict=True):
        found[n] = request
    at_most = max_length if truncate else 2**31 - 1  # what is longer is refused by its number
    words = [tuple(texts[n]) for n in others]
    encoded = zip(*encode_words(tokenizer, words, at_most, truncate, others), strict=True)
    for n, text, (example, words_T) in zip(others, words, encoded, strict=True):
        found[n] = Request(text, example, words_T=words_T)
    return found


def _check_words(n: int, text) -> None:
    words = list(text) if isinstance(text, (list, tuple)) else []
    if not words or not all(isinstance(word, str) for word in words):
        raise TextError(n, "must be a string, or a list of words.")
    for place, word in enumerate(words):
        if not word.strip():
            raise TextError(n, f"has an empty word, number {place} (from 0).")


def _of_strings(tokenizer, texts: list[str], cut: int | None) -> Iterator[Request]:
    if not texts:
        return
    encoded = tokenizer(
        texts, truncation=cut is not None, max_length=cut, return_offsets_mapping=True,
        return_special_tokens_mask=True, verbose=False,
    )  # fmt: skip
    keys = [key for key in ("input_ids", "token_type_ids") if key in encoded]
    for n, text in enumerate(texts):
        example = {key: np.array(encoded[key][n]) for key in keys}
        spans, specials = encoded["offset_mapping"][n], encoded["special_tokens_mask"][n]
        yield Request(text, example, spans, specials)


def found(
    tokenizer, labels: Sequence[str], request: Request, logits_TC: np.ndarray, aggregation: str
) -> list[dict]:
    """What a text is answered, see `Engine.tag`.

    Args:
      labels: names of the C tags.
    """
    scores_TC = np.exp(logits_TC - logits_TC.max(axis=-1, keepdims=True))
    scores_TC = scores_TC / scores_TC.sum(axis=-1, keepdims=True)
    if request.words_T is not None:
        return _of_words(labels, request, scores_TC, VOTES.get(aggregation, VOTES["first"]))
    pieces = list(_pieces(tokenizer, request))
    if aggregation in VOTES:
        vote = VOTES[aggregation]
        tagged = [
            {
                **_best(labels, vote(scores_TC[[piece["index"] for piece in word]])),
                "word": tokenizer.convert_tokens_to_string([piece["word"] for piece in word]),
                "start": word[0]["start"],
                "end": word[-1]["end"],
            }
            for word in _runs(pieces, lambda _, piece: not piece["continues"])
        ]
    else:
        tagged = [
            {**_best(labels, scores_TC[piece["index"]]),
             **{key: piece[key] for key in ("index", "word", "start", "end")}}
            for piece in pieces
        ]  # fmt: skip
    if aggregation == "none":
        return [piece for piece in tagged if piece["entity"] != OUTSIDE]
    entities = (_entity(tokenizer, group) for group in _runs(tagged, _begins))
    return [entity for entity in entities if entity["entity_group"] != OUTSIDE]


def _of_words(labels, request: Request, scores_TC: np.ndarray, vote: Callable) -> list[dict]:
    answers = []
    for n, word in enumerate(request.text):
        scores_PC = scores_TC[request.words_T == n]
        best = {"entity": OUTSIDE, "score": 0.0}  # of a word that was not read
        if len(scores_PC):
            best = _best(labels, vote(scores_PC))
        answers.append({**best, "index": n, "word": word})
    return answers


def _best(labels: Sequence[str], scores_C: np.ndarray) -> dict:
    best = int(scores_C.argmax())
    return {"entity": labels[best], "score": float(scores_C[best])}


def _pieces(tokenizer, request: Request) -> Iterator[dict]:
    """The tokens of a string, without special ones.

    Whether one continues a word is found out as transformers does: with a vocabulary that marks
    such tokens ("##ing") by the mark, with others by the space before it.
    """
    marked = getattr(tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None)
    ids = request.example["input_ids"].tolist()
    names = tokenizer.convert_ids_to_tokens(ids)
    for index, (name, token) in enumerate(zip(names, ids, strict=True)):
        if request.specials[index]:
            continue
        start, end = request.spans[index]
        own = request.text[start:end]
        if marked:
            continues = len(name) != len(own)
        else:
            continues = start > 0 and " " not in request.text[start - 1 : start + 1]
        if token == tokenizer.unk_token_id:
            name, continues = own, False
        yield {"word": name, "start": start, "end": end, "index": index, "continues": continues}


def _runs(items: Sequence[dict], begins: Callable[[dict, dict], bool]) -> list[list[dict]]:
    """The items in runs; `begins` says, of the one before and an item, whether one begins here."""
    runs: list[list[dict]] = []
    for item in items:
        if not runs or begins(runs[-1][-1], item):
            runs.append([])
        runs[-1].append(item)
    return runs


def _begins(before: dict, tagged: dict) -> bool:
    """Whether an entity begins: with a "B-", or another type; other tags are types themselves."""
    return tagged["entity"].startswith("B-") or _type(tagged) != _type(before)


def _type(tagged: dict) -> str:
    tag = tagged["entity"]
    return tag[2:] if tag.startswith(("B-", "I-")) else tag


def _entity(tokenizer, group: Sequence[dict]) -> dict:
    return {
        "entity_group": group[0]["entity"].split("-", 1)[-1],
        "score": float(np.mean([piece["score"] for piece in group])),
        "word": tokenizer.convert_tokens_to_string([piece["word"] for piece in group]),
        "start": group[0]["start"],
        "end": group[-1]["end"],
    }
