"""Byte-level tokenizers that put tokens around a text, and tiny models that read them."""

import jax
import numpy as np
import tiny
import tiny_text
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import latadj_jax
from latadj_jax.harness import language_model

BOS = "<|endoftext|>"  # of byte_level(), id 0
AROUND = {"nothing": "$A", "front": f"{BOS} $A", "back": "$A !", "both": f"{BOS} $A !"}
CONTEXT, AFTER = "the river", " of stone"


def framing(around: str, **named) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that puts its BOS in front, appends its EOS, both or neither."""
    backend = Tokenizer.from_str(tiny_text.byte_level().backend_tokenizer.to_str())
    ids = [(token, backend.token_to_id(token)) for token in (BOS, "!")]
    backend.post_processor = TemplateProcessing(single=AROUND[around], special_tokens=ids)
    named = {"bos_token": BOS, "eos_token": "!"} | named
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


def save(path, tokenizer, family="gpt2", **sizes):
    task = "seq2seq" if family == "t5" else "lm"
    sizes = {"vocab_size": 310, "num_hidden_layers": 1, **sizes}
    latadj_jax.save_pretrained(path, *tiny.make(family, task, **sizes), tokenizer)
    return path


def dense(path, **options):
    return language_model.Latadj(str(path), alpha="dense", **options)


def plain_log_prob(path, before, after) -> float:
    """Of the ids `after` in one plain forward pass over all."""
    model, params = latadj_jax.from_pretrained(path)
    ids = np.array([[*before, *after]], np.int32)
    logits_LV = latadj_jax.apply(model, params, {"input_ids": ids}).logits[0, :-1]
    log_probs_LV = np.asarray(jax.nn.log_softmax(logits_LV))
    return float(sum(log_probs_LV[len(before) - 1 + n, token] for n, token in enumerate(after)))


# What stands around a context.
