"""BERT and its kin with elimination, one example at a time, in NumPy float64.

Word-vectors are list entries: what is removed is really deleted. Nothing is shared with the
library but the names of the parameters. DeBERTa hands in what is its own: oracle_deberta.py.
"""

import dataclasses
import math
import sys

import numpy as np
import scipy.special


@dataclasses.dataclass
class Expected:
    """What one example should come to; slots are columns of its row in the batch."""

    slots: list[int]  # of the word-vectors that are left
    hidden: np.ndarray  # [kept, D]
    restored: dict[int, np.ndarray]  # every slot's hidden state, removed ones as when removed
    owners: dict[int, int]  # of every slot that of the word-vector that it is part of at the end
    pooled: np.ndarray | None
    logits: np.ndarray | None
    scores: list[np.ndarray]  # per layer, of what entered it
    # Least difference of scores between a kept and a removed word-vector, and of likeness to the
    # two that a removed one might be merged into.
    margin: float


def kept_by_formula(rates):
    """Counts that follow the example's own length: `keep(layer, n)` of section 3."""
    return lambda layer, n: min(n, max(1, math.floor(rates[layer] * n + 1e-6)))


def kept_by_table(counts):
    """Counts that were fixed beforehand: `keep(layer, n)`, as far as there are word-vectors."""
    return lambda layer, n: min(n, counts[layer])


def by_score(scores, order):
    return [-score for score in scores]


def by_order(scores, order):
    return list(order)


def run(
    config, params, ids, types, slots, keep, prefer=by_score, merge=False, own=None, opened=None
) -> Expected:
    """Runs the valid tokens of one example.

    Args:
      slots: where they lie in the row; embedded at their distance from the first.
      keep: how many stay after a layer, given its number and how many enter.
      prefer: sort keys, lowest first, that decide who stays; CLS stays anyway.
      merge: whether what goes is averaged into what stays, by likeness of keys; not into CLS.
      own: what has functions in place of `embed`, `attention` and `head`.
      opened: function of the rows [n, D] that enter a layer that gives a factor [n] of scores: who
        stays is then decided by both.
    """
    weights, own = to_float64(params), own or sys.modules[__name__]
    rows = [
        own.embed(weights, token, kind, slot - slots[0], config)
        for token, kind, slot in zip(ids, types, slots, strict=True)
    ]
    slots, cls = [int(slot) for slot in slots], int(slots[0])
    sizes = [1] * len(rows)  # tokens that each stands for
    restored, scores, margin = {}, [], math.inf
    owners = {slot: slot for slot in slots}
    for number in range(config.num_layers):
        layer = weights["layer" if "layer" in weights else f"layer_{number}"]
        probs, keys, values = own.attention(np.array(rows), slots, sizes, layer, weights, config)
        score = [sum(probs[:, i, j].mean() for i in range(len(rows))) for j in range(len(rows))]
        scores.append(np.array(score))

        asked = score * opened(np.array(rows)) if opened else score
        ranks = prefer(asked, slots)
        best = sorted(range(len(rows)), key=lambda j: (slots[j] != cls, ranks[j]))
        count = keep(number, len(rows))
        stay, go = sorted(best[:count]), best[count:]
        ranked_stay = [j for j in stay if slots[j] != cls]
        if go and ranked_stay:
            margin = min(margin, min(ranks[j] for j in go) - max(ranks[j] for j in ranked_stay))
        restored |= {slots[j]: rows[j] for j in go}
        groups = {j: [j] for j in stay}
        for j in go if merge and ranked_stay else ():
            alike = [keys[i] @ keys[j] / np.linalg.norm(keys[i]) for i in ranked_stay]
            into = ranked_stay[int(np.argmax(alike))]
            groups[into].append(j)
            owners = {t: slots[into] if of == slots[j] else of for t, of in owners.items()}
            *_, second, first = [-math.inf, *sorted(alike)]
            margin = min(margin, first - second)
        means = [mean_of_group(group, rows, probs, sizes) for group in groups.values()]
        rows = [block(row, own_probs, values, layer, config) for row, own_probs in means]
        sizes = [sum(sizes[j] for j in group) for group in groups.values()]
        slots = [slots[j] for j in stay]
    restored |= dict(zip(slots, rows, strict=True))
    pooled, logits = own.head(rows[slots.index(cls)], weights)
    return Expected(slots, np.array(rows), restored, owners, pooled, logits, scores, margin)


def embed(weights, token, kind, place, config):
    tables = weights["embeddings"]
    row = tables["word"]["embedding"][token]
    row = row + tables["position"]["embedding"][place + config.first_position]
    if "token_type" in tables:
        row = row + tables["token_type"]["embedding"][kind]
    row = norm(row, tables["norm"], config.norm_eps)
    return dense(row, tables["project"]) if "project" in tables else row


def head(x, weights):
    """Pooled vector and logits of CLS; None of what there is no head for."""
    if "pooler" not in weights:
        return None, None
    pooled = np.tanh(dense(x, weights["pooler"]))
    return pooled, dense(pooled, weights["classifier"]) if "classifier" in weights else None


def bucket(distance, num_buckets, max_distance, both_ways=True):
    """Of T5, for a distance from a query to a key."""
    first, far = 0, max(0, -distance)
    if both_ways:
        num_buckets //= 2
        first, far = num_buckets if distance > 0 else 0, abs(distance)
    exact = num_buckets // 2
    if far < exact:
        return first + far
    step = math.log(far / exact) / math.log(max_distance / exact)
    return first + min(num_buckets - 1, exact + int(step * (num_buckets - exact) + 1e-9))


def mean_of_group(group, rows, probs, sizes):
    """Hidden state and probabilities [heads, n] of one that stays, with what went into it."""
    share = [sizes[j] for j in group]
    row = np.average([rows[j] for j in group], axis=0, weights=share)
    return row, np.average([probs[:, j] for j in group], axis=0, weights=share)


def attention(x, slots, sizes, layer, weights, config):
    """Probabilities [heads, n, n], keys [n, D] and values [heads, n, width].

    A key that stands for several tokens is attended to as so many equal ones.
    """
    query, key, value = (dense(x, layer[name]) for name in ("query", "key", "value"))
    bias = np.zeros((config.num_heads, len(slots), len(slots)))
    for i, j in np.ndindex(bias.shape[1:]) if "relative_bias" in weights else ():
        row = bucket(slots[j] - slots[i], config.num_buckets, config.max_distance)
        bias[:, i, j] = weights["relative_bias"]["embedding"][row]
    width = x.shape[1] // config.num_heads
    probs, values = [], []
    for number in range(config.num_heads):
        part = slice(number * width, (number + 1) * width)
        logits = query[:, part] @ key[:, part].T / math.sqrt(width) + bias[number]
        probs.append(scipy.special.softmax(logits + np.log(sizes), axis=1))
        values.append(value[:, part])
    return np.array(probs), key, np.array(values)


def block(x, probs, values, layer, config):
    """The rest of the layer, for one word-vector that stays: `probs` [heads, n] are its own."""
    heads = np.concatenate([p @ v for p, v in zip(probs, values, strict=True)])
    x = norm(x + dense(heads, layer["attention_out"]), layer["attention_norm"], config.norm_eps)
    wide = dense(x, layer["ff_in"])
    if config.activation == "gelu":
        wide = wide * (1 + scipy.special.erf(wide / math.sqrt(2))) / 2
    else:  # gelu_new
        wide = wide * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))) / 2
    return norm(x + dense(wide, layer["ff_out"]), layer["ff_norm"], config.norm_eps)


def dense(x, weights):
    return x @ weights["kernel"] + weights["bias"]


def norm(x, weights, eps):
    x = x - x.mean()
    return x / np.sqrt((x**2).mean() + eps) * weights["scale"] + weights["bias"]


def to_float64(tree):
    if isinstance(tree, dict):
        return {name: to_float64(branch) for name, branch in tree.items()}
    return np.asarray(tree, np.float64)
