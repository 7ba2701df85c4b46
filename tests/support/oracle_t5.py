"""T5 with elimination in its encoder, one example at a time, in NumPy float64.

Word-vectors are list entries: what is removed is really deleted. Nothing is shared with the library
but the names of the parameters.
"""

import dataclasses
import math

import numpy as np
import scipy.special
from oracle import bucket, by_score, to_float64


@dataclasses.dataclass
class Expected:
    """What one source should come to; slots are columns of its row in the batch."""

    slots: list[int]  # of the word-vectors that are left
    hidden: np.ndarray  # [kept, D], after the final norm
    restored: dict[int, np.ndarray]  # every slot's hidden state, after the final norm
    scores: list[np.ndarray]  # per layer, of what entered it
    sizes: list[int]  # tokens that each stands for
    # Least difference of scores between a kept and a removed word-vector, and of likeness to the
    # two that a removed one might be merged into.
    margin: float


class T5:
    def __init__(self, config, params):
        self.config, self.weights = config, to_float64(params)

    def encode(self, ids, slots, keep, prefer=by_score, merge=False) -> Expected:
        """`keep` says how many stay after a layer, given its number and how many enter."""
        sizes = [1] * len(ids)
        rows = [self.weights["shared"]["embedding"][token] for token in ids]
        slots, restored, scores, margin = [int(s) for s in slots], {}, [], math.inf
        for number in range(self.config.num_layers):
            layer = self.weights[f"encoder_layer_{number}"]
            normed = [self.norm(row, layer["attention_norm"]) for row in rows]
            query, key, value = (
                [self.heads(row, layer[name]) for row in normed]
                for name in ("query", "key", "value")
            )
            probs = []  # of each query: [keys, heads]
            for i in range(len(rows)):
                bias = [self.bias("encoder", layer, slots[i], at) for at in slots]
                bias = [b + math.log(n) for b, n in zip(bias, sizes, strict=True)]
                probs.append(self.probs(query[i], key, bias))
            score = [sum(p[j].mean() for p in probs) for j in range(len(rows))]
            scores.append(np.array(score))

            ranks = prefer(score, slots)
            best = sorted(range(len(rows)), key=lambda j: ranks[j])
            count = keep(number, len(rows))
            stay, go = sorted(best[:count]), best[count:]
            if go:
                margin = min(margin, min(ranks[j] for j in go) - max(ranks[j] for j in stay))
            restored |= {slots[j]: rows[j] for j in go}
            groups = {j: [j] for j in stay}
            for j in go if merge else ():
                alike = [(key[i] * key[j]).sum() / np.linalg.norm(key[i]) for i in stay]
                groups[stay[int(np.argmax(alike))]].append(j)
                *_, second, first = [-math.inf, *sorted(alike)]
                margin = min(margin, first - second)
            means = []
            for group in groups.values():
                share = [sizes[j] for j in group]
                row, own = (
                    np.average([of[j] for j in group], axis=0, weights=share)
                    for of in (rows, probs)
                )
                row = row + self.mix(own, value) @ layer["attention_out"]["kernel"]
                means.append(self.feed_forward(row, layer["ff"]))
            rows = means
            sizes = [sum(sizes[j] for j in group) for group in groups.values()]
            slots = [slots[j] for j in stay]
        restored |= dict(zip(slots, rows, strict=True))
        final = self.weights["encoder_norm"]
        restored = {slot: self.norm(row, final) for slot, row in restored.items()}
        hidden = np.array([restored[slot] for slot in slots])
        return Expected(slots, hidden, restored, scores, sizes, margin)

    def decode(self, encoded, sizes, ids) -> np.ndarray:
        """Logits after each of the target tokens `ids`, [S, V]; `encoded` [kept, D]."""
        log_sizes = np.log(sizes)[:, None]
        states = [self.weights["shared"]["embedding"][token] for token in ids]
        for number in range(self.config.num_decoder_layers):
            layer = self.weights[f"decoder_layer_{number}"]
            normed = [self.norm(state, layer["attention_norm"]) for state in states]
            query, key, value = (
                [self.heads(row, layer[name]) for row in normed]
                for name in ("query", "key", "value")
            )
            cross_key, cross_value = (
                [self.heads(row, layer[name]) for row in encoded]
                for name in ("cross_key", "cross_value")
            )
            following = []
            for i, state in enumerate(states):
                bias = [self.bias("decoder", layer, i, j) for j in range(i + 1)]
                probs = self.probs(query[i], key[: i + 1], bias)
                state = state + self.mix(probs, value[: i + 1]) @ layer["attention_out"]["kernel"]
                asking = self.heads(self.norm(state, layer["cross_norm"]), layer["cross_query"])
                probs = self.probs(asking, cross_key, log_sizes)
                state = state + self.mix(probs, cross_value) @ layer["cross_out"]["kernel"]
                following.append(self.feed_forward(state, layer["ff"]))
            states = following
        states = np.array([self.norm(state, self.weights["decoder_norm"]) for state in states])
        if self.config.scaled:
            states = states / math.sqrt(self.config.hidden_size)
        if self.config.tied:
            return states @ self.weights["shared"]["embedding"].T
        return states @ self.weights["head"]["kernel"]

    def heads(self, row, weights):
        return (row @ weights["kernel"]).reshape(self.config.num_heads, -1)

    def probs(self, query, keys, bias):
        """[keys, heads]; logits are not scaled."""
        logits = [(query * key).sum(axis=1) + b for key, b in zip(keys, bias, strict=True)]
        return scipy.special.softmax(np.array(logits), axis=0)

    def mix(self, probs, values):
        """All heads' outputs, side by side."""
        return sum(p[:, None] * value for p, value in zip(probs, values, strict=True)).reshape(-1)

    def bias(self, stack, layer, query_at, key_at):
        """[heads]"""
        config = self.config
        number = bucket(
            key_at - query_at, config.num_buckets, config.max_distance, stack == "encoder"
        )
        table = layer.get("relative_bias") or self.weights[f"{stack}_bias"]
        return table["embedding"][number]

    def feed_forward(self, x, weights):
        normed = self.norm(x, weights["norm"])
        if self.config.gated:
            gate = normed @ weights["gate"]["kernel"]
            cubic = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
            wide = gate * (1 + np.tanh(cubic)) / 2 * (normed @ weights["up"]["kernel"])
        else:
            wide = np.maximum(normed @ weights["wide"]["kernel"], 0)
        return x + wide @ weights["down"]["kernel"]

    def norm(self, x, weights):
        return x / math.sqrt((x**2).mean() + self.config.norm_eps) * weights["scale"]
