"""ModernBERT with elimination, one example at a time, in NumPy float64.

Word-vectors are list entries: what is removed is really deleted. Nothing is shared with the library
but the names of the parameters.
"""

import dataclasses
import math

import numpy as np
import scipy.special
from oracle import by_score, mean_of_group, to_float64


@dataclasses.dataclass
class Expected:
    """What one example should come to; slots are columns of its row in the batch."""

    slots: list[int]  # of the word-vectors that are left
    hidden: np.ndarray  # [kept, D], after the final norm
    sizes: list[int]  # tokens that each of them stands for
    restored: dict[int, np.ndarray]  # every slot's hidden state, after the final norm
    owners: dict[int, int]  # of every slot that of the word-vector that it is part of at the end
    logits: np.ndarray | None  # of a classifier
    scores: list[np.ndarray]  # per layer, of what entered it
    # Least difference of scores between a kept and a removed word-vector, and of likeness to the
    # two that a removed one might be merged into.
    margin: float


class ModernBert:
    """One model.

    Args:
      every: which layers are global: every so many, the first among them.
      thetas: of rotary positions, of global and of local layers.
    """

    def __init__(self, config, params, every, thetas):
        self.config, self.weights = config, to_float64(params)
        self.every, self.thetas = every, thetas
        self.heads = config.num_heads

    def run(self, ids, slots, keep, prefer=by_score, merge=False) -> Expected:
        """Runs the valid tokens of one example; the arguments are those of oracle.run."""
        weights, slots = self.weights, [int(slot) for slot in slots]
        cls, sizes = slots[0], [1] * len(slots)
        rows = [
            self.norm(weights["word"]["embedding"][token], weights["embedding_norm"])
            for token in ids
        ]
        restored, scores, margin = {}, [], math.inf
        owners = {slot: slot for slot in slots}
        for number in range(self.config.num_layers):
            layer = weights[f"layer_{number}"]
            is_local = number % self.every != 0
            reach = self.config.local_attention // 2 if is_local else 10**9
            theta = self.thetas[1 if is_local else 0]
            normed = [self.norm(row, layer["attention_norm"]) if number else row for row in rows]
            queries, keys, values = (
                [np.split(dense(row, layer[name]), self.heads) for row in normed]
                for name in ("query", "key", "value")
            )
            queries, keys = (
                [[turn(part, slot - cls, theta) for part in parts]
                 for parts, slot in zip(split, slots, strict=True)]
                for split in (queries, keys)
            )  # fmt: skip
            n = len(rows)
            probs = np.zeros((self.heads, n, n))
            for i in range(n):
                seen = [j for j in range(n) if abs(slots[j] - slots[i]) <= reach]
                for head in range(self.heads):
                    logits = [
                        queries[i][head] @ keys[j][head] / math.sqrt(len(keys[j][head]))
                        + math.log(sizes[j])
                        for j in seen
                    ]
                    probs[head, i, seen] = scipy.special.softmax(logits)
            score = []
            for j in range(n):
                viewers = [i for i in range(n) if abs(slots[j] - slots[i]) <= reach]
                score.append(sum(probs[:, i, j].mean() for i in viewers) / len(viewers))
            score = [value / np.mean(score) for value in score]
            scores.append(np.array(score))

            ranks = prefer(score, slots)
            best = sorted(range(n), key=lambda j: (slots[j] != cls, ranks[j]))
            count = keep(number, n)
            stay, go = sorted(best[:count]), best[count:]
            ranked_stay = [j for j in stay if slots[j] != cls]
            if go and ranked_stay:
                margin = min(margin, min(ranks[j] for j in go) - max(ranks[j] for j in ranked_stay))
            restored |= {slots[j]: rows[j] for j in go}
            groups = {j: [j] for j in stay}
            whole = [np.concatenate(key) for key in keys]
            for j in go if merge and ranked_stay else ():
                alike = [whole[i] @ whole[j] / np.linalg.norm(whole[i]) for i in ranked_stay]
                into = ranked_stay[int(np.argmax(alike))]
                groups[into].append(j)
                owners = {t: slots[into] if of == slots[j] else of for t, of in owners.items()}
                *_, second, first = [-math.inf, *sorted(alike)]
                margin = min(margin, first - second)
            means = [mean_of_group(group, rows, probs, sizes) for group in groups.values()]
            rows = [self.block(row, own, values, layer) for row, own in means]
            sizes = [sum(sizes[j] for j in group) for group in groups.values()]
            slots = [slots[j] for j in stay]
        restored |= dict(zip(slots, rows, strict=True))
        restored = {slot: self.norm(x, weights["final_norm"]) for slot, x in restored.items()}
        hidden = np.array([restored[slot] for slot in slots])
        logits = None
        if "classifier" in weights:
            mean = np.average(hidden, axis=0, weights=sizes)
            logits = self.logits(hidden[0] if self.config.pooling == "cls" else mean)
        return Expected(slots, hidden, sizes, restored, owners, logits, scores, margin)

    def block(self, x, probs, values, layer):
        """The rest of the layer, for one word-vector that stays: `probs` [heads, n] are its own."""
        heads = [
            sum(p * value[head] for p, value in zip(row, values, strict=True))
            for head, row in enumerate(probs)
        ]
        x = x + dense(np.concatenate(heads), layer["attention_out"])
        normed = self.norm(x, layer["ff_norm"])
        wide = gelu(dense(normed, layer["gate"])) * dense(normed, layer["up"])
        return x + dense(wide, layer["down"])

    def logits(self, x):
        head = self.weights["head"]
        return dense(
            self.norm(gelu(dense(x, head["dense"])), head["norm"]), self.weights["classifier"]
        )

    def norm(self, x, weights):
        x = x - x.mean()
        x = x / math.sqrt((x**2).mean() + self.config.norm_eps) * weights["scale"]
        return x + weights.get("bias", 0.0)


def gelu(x):
    return x * (1 + scipy.special.erf(x / math.sqrt(2))) / 2


def dense(x, weights):
    return x @ weights["kernel"] + weights.get("bias", 0.0)


def turn(x, position, theta):
    """Rotary position: the pair (c, c + C / 2) is one complex number."""
    half = len(x) // 2
    speed = float(theta) ** (-np.arange(half) / half)
    turned = (x[:half] + 1j * x[half:]) * np.exp(1j * position * speed)
    return np.concatenate([turned.real, turned.imag])
