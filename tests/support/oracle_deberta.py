"""What DeBERTa has of its own, for oracle.py: distances, one pair of word-vectors at a time."""

import math

import numpy as np
import scipy.special
from oracle import dense, norm


def embed(weights, token, kind, place, config):
    embeddings = weights["embeddings"]
    x = embeddings["word"]["embedding"][token]
    if config.has_positions:
        x = x + embeddings["position"]["embedding"][place]
    if config.type_vocab_size:
        x = x + embeddings["token_type"]["embedding"][kind]
    if "project" in embeddings:
        x = x @ embeddings["project"]["kernel"]
    return norm(x, embeddings["norm"], config.norm_eps)


def head(x, weights):
    x = dense(x, weights["pooler"])
    x = x * (1 + scipy.special.erf(x / math.sqrt(2))) / 2
    return None, dense(x, weights["classifier"])


def row_of(distance, config):
    """Which row of the table stands for a distance (query minus key)."""
    span = reach = config.max_distance if config.max_distance > 0 else config.position_rows
    if config.position_buckets > 0:
        span, exact = config.position_buckets, config.position_buckets // 2
        if abs(distance) > exact:
            share = math.log(abs(distance) / exact) / math.log((reach - 1) / exact)
            bucket = exact + math.ceil(share * (exact - 1) - 1e-6)
            distance = bucket if distance > 0 else -bucket
    return min(max(distance + span, 0), 2 * span - 1)


def attention(x, slots, sizes, layer, weights, config):
    """As of oracle.py, with the two terms of distances."""
    names = ("key", "query") if config.shares_projections else ("position_key", "position_query")
    query, key, value = (dense(x, layer[name]) for name in ("query", "key", "value"))
    width = x.shape[1] // config.num_heads
    scale = math.sqrt(width * (1 + len(config.terms)))
    n = len(slots)
    logits, values = np.zeros((config.num_heads, n, n)), []
    for number in range(config.num_heads):
        part = slice(number * width, (number + 1) * width)
        values.append(value[:, part])
        for i in range(n):
            for j in range(n):
                row = weights["relative"]["embedding"][row_of(slots[i] - slots[j], config)]
                if config.relative_norm == "layer_norm":
                    row = norm(row, weights["relative_norm"], config.norm_eps)
                logit = query[i, part] @ key[j, part]
                if "c2p" in config.terms:
                    logit += query[i, part] @ dense(row, layer[names[0]])[part]
                if "p2c" in config.terms:
                    logit += key[j, part] @ dense(row, layer[names[1]])[part]
                logits[number, i, j] = logit / scale + math.log(sizes[j])
    return scipy.special.softmax(logits, axis=2), key, np.array(values)
