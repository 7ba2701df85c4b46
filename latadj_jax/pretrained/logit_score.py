"""Language models that rank: by the logit of one token less that of another after a pair.

So Qwen3-Reranker answers "yes" or "no". sentence-transformers has it as the module LogitScore, and
reads every language model so; what has its activation is the share of "yes" among the two.

    h . W_yes - h . W_no = h . (W_yes - W_no)

The difference of two rows of the head is the one row of a classifier.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from latadj_jax.checks import is_integer
from latadj_jax.errors import ConfigError
from latadj_jax.families.family import CAUSAL_LM, SEQUENCE, Family
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.pretrained.json_files import read_json
from latadj_jax.pretrained.sentence_transformers import MODULES

log = logging.getLogger(__name__)


class Tokens(NamedTuple):
    """Ids of the token that speaks for a document, and of the one against it, if there is one."""

    true: int
    false: int | None


def read_logit_score(folder: Path) -> Tokens | None:
    """The tokens of a folder whose modules.json ends in a LogitScore; None of any other.

    Raises:
      ConfigError: a LogitScore that cannot be used.
    """
    if not (folder / MODULES).is_file():
        return None
    last = read_json(folder / MODULES, list)[-1:]
    if not last or not str(dict(last[0]).get("type")).endswith(".LogitScore"):
        return None
    file = folder / str(last[0].get("path", "")) / "config.json"
    hf = read_json(file)
    tokens = Tokens(hf.get("true_token_id"), hf.get("false_token_id"))
    if not is_integer(tokens.true) or not (tokens.false is None or is_integer(tokens.false)):
        raise ConfigError(f"{file}: true_token_id and false_token_id must be ids; they are {hf!r}.")
    if (read := hf.get("module_input_name", "causal_logits")) != "causal_logits":
        raise ConfigError(f"{file}: a LogitScore of {read!r} is not implemented.")
    return tokens


def yes_and_no(ids: Mapping[str, int]) -> Tokens | None:
    """The tokens of a language model that does not say, as sentence-transformers takes them.

    Args:
      ids: the vocabulary of its tokenizer.
    """
    return Tokens(ids["yes"], ids["no"]) if {"yes", "no"} <= {*ids} else None


def with_classifier(
    family: Family, config: HfConfig, tensors: Mapping[str, np.ndarray], tokens: Tokens
) -> Mapping[str, np.ndarray]:
    """`tensors` of a language model and, beside them, the classifier that its head comes to.

    Raises:
      ConfigError: ids that the vocabulary does not have.
    """
    if not all(0 <= n < config.vocab_size for n in tokens if n is not None):
        raise ConfigError(f"{tokens} are not all among the vocabulary's {config.vocab_size}.")
    word = f"{family.names['word']}.weight"
    names = [f"{name}.weight" for name in family.heads[CAUSAL_LM].names.values()]
    names += [f"{family.prefix}{word}", word] * config.tied
    head_VD = next((tensors[name] for name in names if name in tensors), None)
    if head_VD is None:
        return tensors
    row_D = np.asarray(head_VD[tokens.true], np.float32)
    if tokens.false is not None:
        row_D = row_D - np.asarray(head_VD[tokens.false], np.float32)
    (name,) = family.heads[SEQUENCE].names.values()
    return {**tensors, f"{name}.weight": row_D[None]}
