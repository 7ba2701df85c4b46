"""A training run on running text: its windows, and a model and tokenizer from scratch."""

import functools
import json
from collections.abc import Callable, Mapping

import numpy as np

from latadj_jax.checks import check_fits
from latadj_jax.data.encoded import Encoded
from latadj_jax.data.running_text import load_corpus
from latadj_jax.data.train_tokenizer import train_tokenizer
from latadj_jax.data.windows import sliding_windows, training_windows
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.perplexity import evaluate_text
from latadj_jax.families.decoders.gpt2 import GPT2Config
from latadj_jax.model.inputs import check_ids
from latadj_jax.model.model import Model
from latadj_jax.model.placement import init_params
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import encode_text, load_tokenizer
from latadj_jax.tasks.language_model import LANGUAGE_MODEL
from latadj_jax.training.jobs.job import Job, as_trained, watched
from latadj_jax.training.settings import Settings

TASKS = (LANGUAGE_MODEL,)


def load(settings: Settings) -> Job:
    """A pretrained model or one from scratch, and windows of the training text's token ids.

    Raises:
      ValueError: settings, data or weights that cannot work.
    """
    train_text, eval_texts = load_corpus(settings.data)
    if settings.model.source:
        model, params = from_pretrained(
            settings.model.source,
            LANGUAGE_MODEL.name,
            seed=settings.seed,
            strict=settings.model.strict,
        )
        tokenizer = load_tokenizer(settings.model.source)
    else:
        model, params, tokenizer = from_scratch(settings, train_text)
    train_ids = encode_text(tokenizer, train_text)
    check_ids([{"input_ids": train_ids}], model.input_ranges, lambda _: "the training text")
    train_data = training_data(settings, train_ids)
    eval_ids = {name: encode_text(tokenizer, text) for name, text in eval_texts.items()}
    held_out = watched(settings, eval_ids)
    window = settings.lm.window
    return Job(
        model=as_trained(model, settings),
        params=params,
        tokenizer=tokenizer,
        data=train_data,
        buckets=(window,),
        planned={window: settings.lm.prompt or window},
        held_out=None if held_out is None else windows_of(settings, held_out),
        evaluate=_evaluator(settings, model, eval_ids),
    )


def evaluator(settings: Settings, model: Model, tokenizer) -> Callable:
    """`evaluate_text` of (model, params) that were trained with these settings.

    Raises:
      ValueError: windows that the model or the texts cannot hold.
    """
    texts = load_corpus(settings.data)[1]
    eval_ids = {name: encode_text(tokenizer, text) for name, text in texts.items()}
    return _evaluator(settings, model, eval_ids)


def _evaluator(settings: Settings, model: Model, eval_ids: Mapping[str, np.ndarray]) -> Callable:
    check(settings, model, eval_ids)
    return functools.partial(
        evaluate_text,
        parts=eval_ids,
        alphas=settings.eval.alphas,
        lm=settings.lm,
        settings=settings.eval,
        count=settings.elimination.count,
    )


def from_scratch(settings: Settings, train_text: str):
    """A GPT-2 of the settings' sizes with random weights, and a tokenizer of the training text."""
    s = settings.model.scratch
    tokenizer = train_tokenizer(train_text, s.vocab_size)
    config = GPT2Config(
        vocab_size=s.vocab_size,
        hidden_size=s.hidden_size,
        num_layers=s.num_layers,
        num_heads=s.num_heads,
        intermediate_size=4 * s.hidden_size,
        max_positions=s.max_positions,
        eos_tokens=(tokenizer.eos_token_id,),
        hf=json.dumps({"bos_token_id": tokenizer.bos_token_id}),
    )
    model = Model(config, LANGUAGE_MODEL.name)
    return model, init_params(model, settings.seed), tokenizer


def check(settings: Settings, model: Model, eval_ids: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError for windows that the model or the evaluation texts cannot hold, and for
    tokens that the model does not know."""
    wanted = {"window": settings.lm.window, "context + config.lm.continuation":
              settings.lm.context + settings.lm.continuation}  # fmt: skip
    for name, length in wanted.items():
        what = f"config.lm.{name} is {length} tokens"
        check_fits(length, model.config.max_positions, what, "lower it", error=SettingsError)
    for name, ids in eval_ids.items():
        ranges = model.input_ranges
        check_ids([{"input_ids": ids}], ranges, lambda _, name=name: f"the text {name}")
        sliding_windows(ids, settings.lm.context, settings.lm.continuation)


def training_data(settings: Settings, ids: np.ndarray) -> Encoded:
    """Windows of the training text, as examples without labels."""
    windows_WT = training_windows(ids, settings.lm.window, settings.lm.stride)
    if limit := settings.data.max_train_examples:
        rng = np.random.default_rng(settings.seed)
        windows_WT = windows_WT[np.sort(rng.permutation(len(windows_WT))[:limit])]
    return _unlabelled(windows_WT)


def windows_of(settings: Settings, ids: np.ndarray) -> Encoded:
    """Windows of a text, one after another; none of a text that is shorter."""
    window = settings.lm.window
    if len(ids) < window:
        return _unlabelled(np.zeros((0, window), np.int32))
    return _unlabelled(training_windows(ids, window, window))


def _unlabelled(windows_WT: np.ndarray) -> Encoded:
    return Encoded([{"input_ids": row} for row in windows_WT], np.zeros(len(windows_WT), np.int32))
