"""A GPT-2 that writes what it is told to, and its tokenizer, whose tokens are characters."""

import json

import jax
import numpy as np
import tiny
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import latadj_jax

END, TURN, UNKNOWN = "<|end|>", "<|im_end|>", "<unk>"
TOKENS = [*"ABCDEFGH\n. ", END, TURN, "<x>", "<y>", UNKNOWN]
IDS = {token: n for n, token in enumerate(TOKENS)}


def tokenizer(special=(END, TURN, UNKNOWN), plain=(), **named) -> PreTrainedTokenizerFast:
    """Texts of several characters are tokens if they are added: special ones, or plain ones, which
    a decoder shows. Those that TOKENS has not get ids that the model has not."""
    backend = Tokenizer(models.WordLevel(dict(IDS), unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    backend.add_tokens([AddedToken(text, normalized=False) for text in plain])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token=UNKNOWN, **named)


def save(path, written: list[str], own_tokenizer, **config):
    """A model that writes `written` after two tokens, whatever they are, and its last for ever.

    Each position's embedding says which token comes next: the tokens' embeddings are the rows of an
    identity matrix, and the attention and feed-forward blocks add nothing.
    """
    size, length = len(TOKENS), 64
    sizes = {"n_embd": size, "n_inner": size, "n_layer": 1, "n_positions": length}
    model, params = tiny.make("gpt2", "lm", vocab_size=size, **sizes)
    params = jax.tree.map(np.zeros_like, params)
    params["final_norm"]["scale"] = np.ones(size, np.float32)
    params["word"]["embedding"] = np.eye(size, dtype=np.float32)
    positions = np.zeros((length, size), np.float32)
    for n in range(1, length):
        positions[n, IDS[written[min(n, len(written)) - 1]]] = 5
    params["position"]["embedding"] = positions
    latadj_jax.save_pretrained(path, model, params, own_tokenizer)
    file = path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    return path
