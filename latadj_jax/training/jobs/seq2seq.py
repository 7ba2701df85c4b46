"""A training run on pairs of texts: a T5 learns to write the second after the first."""

import functools
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from latadj_jax.data.encoded import Encoded, buckets_of
from latadj_jax.data.labelled_examples import Examples, load_examples
from latadj_jax.data.settings import DataSettings
from latadj_jax.data.train_tokenizer import byte_level_bpe
from latadj_jax.errors import DataError
from latadj_jax.evaluation.generated_text import evaluate_generated, require_sacrebleu
from latadj_jax.families.encoders.t5_config import T5Config
from latadj_jax.model.inputs import check_ids
from latadj_jax.model.model import Model
from latadj_jax.model.placement import init_params
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import encode, end_tokens, load_tokenizer
from latadj_jax.tasks.seq2seq import SEQ2SEQ
from latadj_jax.training.jobs.job import Job, as_trained, watched
from latadj_jax.training.settings import Settings

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"

TASKS = (SEQ2SEQ,)


def load(settings: Settings) -> Job:
    """A pretrained T5 or one from scratch, and the token ids of sources and targets.

    Raises:
      ValueError: settings, data or weights that cannot work.
    """
    data = settings.data
    train_examples, eval_examples, _ = load_examples(data, SEQ2SEQ, settings.seed)
    if settings.model.source:
        tokenizer = load_tokenizer(settings.model.source)
        model, params = from_pretrained(
            settings.model.source, SEQ2SEQ.name, seed=settings.seed, strict=settings.model.strict
        )
        ends = end_tokens(tokenizer, model.config)  # targets end with the tokenizer's own
        model = model.replace(config=model.config.replace(eos_tokens=ends))
    else:
        model, params, tokenizer = from_scratch(settings, train_examples)
    model.check_start()
    train_data = encode_pairs(tokenizer, train_examples, data)
    eval_data = {name: encode_pairs(tokenizer, part, data) for name, part in eval_examples.items()}
    for name, part in {"training": train_data, **eval_data}.items():
        check_ids(part.examples, model.input_ranges, lambda n, name=name: f"{name}, source {n}")
        targets = [{"decoder_input_ids": ids[ids >= 0]} for ids in part.labels]
        check_ids(targets, model.input_ranges, lambda n, name=name: f"{name}, target {n}")
    return Job(
        model=as_trained(model, settings),
        params=params,
        tokenizer=tokenizer,
        data=train_data,
        buckets=buckets_of(data, "valid"),
        planned={bucket: bucket for bucket in buckets_of(data, settings.elimination.count)},
        held_out=watched(settings, eval_data),
        evaluate=_evaluator(settings, tokenizer, eval_examples, eval_data),
    )


def evaluator(settings: Settings, model: Model, tokenizer) -> Callable:
    """`evaluate_generated` of (model, params) trained with these settings."""
    data = settings.data
    examples = load_examples(data, SEQ2SEQ, settings.seed)[1]
    parts = {name: encode_pairs(tokenizer, part, data) for name, part in examples.items()}
    return _evaluator(settings, tokenizer, examples, parts)


def _evaluator(
    settings: Settings,
    tokenizer,
    examples: Mapping[str, Examples],
    parts: Mapping[str, Encoded],
) -> Callable:
    require_sacrebleu()
    count = settings.elimination.count
    return functools.partial(
        evaluate_generated,
        tokenizer=tokenizer,
        parts=parts,
        references={name: list(part.labels) for name, part in examples.items()},
        alphas=settings.eval.alphas,
        settings=settings.eval,
        max_new_tokens=settings.data.max_target_length,
        buckets=buckets_of(settings.data, count),
        count=count,
    )


def encode_pairs(tokenizer, examples: Examples, data: DataSettings) -> Encoded:
    """Sources, and targets as labels [N, S] with -1 after their ends; both end with </s>.

    Raises:
      DataError: a text that is too long, or a tokenizer that ends no text.
    """
    sources = encode(tokenizer, examples.texts, data.max_length, data.truncate)
    pairs = [(text,) for text in examples.labels]
    targets = encode(tokenizer, pairs, data.max_target_length, data.truncate, "max_target_length")
    end = tokenizer.eos_token_id
    if end is None or any(target["input_ids"][-1] != end for target in targets):
        raise DataError(
            "The tokenizer ends no text with an end-of-sequence token, so generation would never "
            "stop: use the tokenizer of a T5, or set its eos_token and its post-processor."
        )
    sources = [{"input_ids": source["input_ids"]} for source in sources]  # a T5 reads no more
    labels = np.full((len(targets), max(len(t["input_ids"]) for t in targets)), -1, np.int32)
    for row, target in zip(labels, targets, strict=True):
        row[: len(target["input_ids"])] = target["input_ids"]
    return Encoded(sources, labels, "target")


def from_scratch(settings: Settings, examples: Examples):
    """A T5 of the settings' sizes with random weights, and a tokenizer of the training texts."""
    s = settings.model.scratch
    texts = (text for pair, target in zip(examples.texts, examples.labels, strict=True)
             for text in (*pair, target))  # fmt: skip
    tokenizer = train_tokenizer(texts, s.vocab_size)
    config = T5Config(
        vocab_size=s.vocab_size,
        hidden_size=s.hidden_size,
        num_layers=s.num_layers,
        num_decoder_layers=s.num_decoder_layers,
        num_heads=s.num_heads,
        head_size=s.hidden_size // s.num_heads,
        intermediate_size=2 * s.hidden_size,
        decoder_start=tokenizer.pad_token_id,
        eos_tokens=(tokenizer.eos_token_id,),
        pad_tokens=(tokenizer.pad_token_id,),
    )
    model = Model(config, SEQ2SEQ.name)
    return model, init_params(model, settings.seed), tokenizer


def train_tokenizer(texts: Iterable[str], vocab_size: int):
    """A byte-level BPE tokenizer trained on `texts`, with T5's special tokens: each text ends </s>.

    Raises:
      DataError: a vocabulary that cannot hold the bytes.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast  # slow to import

    bpe = byte_level_bpe(texts, vocab_size, (PAD, END, UNKNOWN))
    end = [(END, bpe.token_to_id(END))]
    bpe.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=end)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, unk_token=UNKNOWN
    )
