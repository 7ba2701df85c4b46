"""GPT-2, Llama and its relatives with elimination, one example at a time, in NumPy float64.

Word-vectors and caches are list entries: what is removed is really deleted. Nothing is shared with
the library but the names of the parameters.
"""

import dataclasses
import math

import numpy as np
import scipy.special
from oracle import by_score, norm, to_float64


@dataclasses.dataclass
class Expected:
    """What one prompt should come to; slots are columns of its row in the batch."""

    slots: list[int]  # of the word-vectors that are left
    hidden: np.ndarray  # [kept, D], after the final norm
    restored: dict[int, np.ndarray]  # every slot's hidden state, after the final norm
    logits: np.ndarray | None  # of a classifier, read off the last token
    scores: list[np.ndarray]  # per layer, of what entered it
    margin: float  # least difference of scores between a kept and a removed word-vector
    caches: list[list[tuple]]  # per layer, (keys, values, position) of what entered it


def by_recency(scores, order):
    """The first four positions, then the last ones; each rank once."""
    return [(-1e6 + o) if o - order[0] < 4 else -o for o in order]


class Decoder:
    """One model. Families differ in norm, positions, feed-forward and names, and layers in how they
    rotate and how far back they see."""

    def __init__(self, config, params):
        self.config, self.weights = config, to_float64(params)
        self.gpt2 = config.model_type == "gpt2"
        self.gemma = config.model_type == "gemma3_text"
        self.heads = config.num_heads
        self.groups = config.num_heads if self.gpt2 else config.num_kv_heads
        plain = [None] * config.num_layers
        self.windows, self.ropes = plain, plain
        if not self.gpt2:
            self.windows, self.ropes = config.windows, config.ropes

    def prompt(self, ids, slots, keep, prefer=by_score) -> Expected:
        """Runs the valid tokens of one example.

        Args:
          slots: where they lie in the row; positions are distances from the first.
          keep: how many stay after a layer, given its number and how many enter.
          prefer: sort keys, lowest first, that decide who stays; the last one stays anyway.
        """
        slots = [int(slot) for slot in slots]
        first, last = slots[0], slots[-1]
        rows = [self.embed(token, slot - first) for token, slot in zip(ids, slots, strict=True)]
        restored, scores, caches, margin = {}, [], [], math.inf
        for number in range(self.config.num_layers):
            cache = [self.key_value(x, s - first, number) for x, s in zip(rows, slots, strict=True)]
            probs = [
                self.probs(x, slot - first, cache[: i + 1], number)
                for i, (x, slot) in enumerate(zip(rows, slots, strict=True))
            ]
            n = len(rows)
            # Eq. (8): the mean over the queries that see column j, which are j and all after it
            # that are not too far from it.
            window = self.windows[number] or math.inf
            seeing = [[i for i in range(j, n) if slots[i] - slots[j] < window] for j in range(n)]
            score = [np.mean([probs[i][:, j].mean() for i in seeing[j]]) for j in range(n)]
            scores.append(np.array(score))
            caches.append(cache)

            ranks = prefer(score, slots)
            best = sorted(range(n), key=lambda j: (slots[j] != last, ranks[j]))
            count = keep(number, n)
            stay, go = sorted(best[:count]), best[count:]
            ranked_stay = [j for j in stay if slots[j] != last]
            if go and ranked_stay:
                margin = min(margin, min(ranks[j] for j in go) - max(ranks[j] for j in ranked_stay))
            restored |= {slots[j]: rows[j] for j in go}
            rows = [self.block(rows[j], probs[j], cache[: j + 1], number) for j in stay]
            slots = [slots[j] for j in stay]
        restored |= dict(zip(slots, rows, strict=True))
        restored = {slot: self.norm(x, self.weights["final_norm"]) for slot, x in restored.items()}
        hidden = np.array([restored[slot] for slot in slots])
        logits = None
        if "classifier" in self.weights:
            logits = restored[last] @ self.weights["classifier"]["kernel"]
        return Expected(slots, hidden, restored, logits, scores, margin, caches)

    def continuation(self, prompt: Expected, ids, length: int) -> np.ndarray:
        """Logits [S + 1, V] after the prompt's last token and after each of `ids`.

        Args:
          length: positions that the prompt takes up.
        """
        logits = [self.token_logits(prompt.hidden[-1])]
        caches = [list(cache) for cache in prompt.caches]
        for position, token in enumerate(ids, length):
            x = self.embed(token, position)
            for number, cache in enumerate(caches):
                cache.append(self.key_value(x, position, number))
                x = self.block(x, self.probs(x, position, cache, number), cache, number)
            logits.append(self.token_logits(self.norm(x, self.weights["final_norm"])))
        return np.array(logits)

    def embed(self, token, position):
        x = self.weights["word"]["embedding"][token]
        if self.gemma:
            x = x * math.sqrt(len(x))
        return x + self.weights["position"]["embedding"][position] if self.gpt2 else x

    def token_logits(self, hidden):
        if "head" in self.weights:
            return hidden @ self.weights["head"]["kernel"]
        return hidden @ self.weights["word"]["embedding"].T

    def key_value(self, x, position, number):
        """One key and one value for each group of heads, and where they stand."""
        layer = self.weights[f"layer_{number}"]
        x = self.norm(x, layer["attention_norm"])
        keys = np.split(dense(x, layer["key"]), self.groups)
        values = np.split(dense(x, layer["value"]), self.groups)
        return [self.head(key, "key", position, number) for key in keys], values, position

    def probs(self, x, position, cache, number):
        """Attention of one word-vector to those in the cache: [heads, n]."""
        layer = self.weights[f"layer_{number}"]
        x = self.norm(x, layer["attention_norm"])
        queries = np.split(dense(x, layer["query"]), self.heads)
        window, rows = self.windows[number] or math.inf, []
        scale = math.sqrt(self.config.query_scalar if self.gemma else len(queries[0]))
        for head, query in enumerate(queries):
            query = self.head(query, "query", position, number)
            group = head * self.groups // self.heads
            logits = [
                query @ keys[group] / scale if position - at < window else -math.inf
                for keys, _, at in cache
            ]
            rows.append(scipy.special.softmax(logits))
        return np.array(rows)

    def head(self, x, of, position, number):
        """A query or key as it is compared: normed, if the model norms heads, then rotated."""
        layer = self.weights[f"layer_{number}"]
        if f"{of}_norm" in layer:
            x = self.norm(x, layer[f"{of}_norm"])
        return self.turn(x, position, self.ropes[number])

    def block(self, x, probs, cache, number):
        """The rest of the layer, for one word-vector that stays: `probs` [heads, n] are its own."""
        layer = self.weights[f"layer_{number}"]
        heads = [
            sum(p * values[head * self.groups // self.heads] for p, (_, values, _) in
                zip(row, cache, strict=True))
            for head, row in enumerate(probs)
        ]  # fmt: skip
        out = dense(np.concatenate(heads), layer["attention_out"])
        x = x + (self.norm(out, layer["attention_out_norm"]) if self.gemma else out)
        normed = self.norm(x, layer["ff_norm"])
        if self.gpt2:
            return x + dense(gelu(dense(normed, layer["ff_in"])), layer["ff_out"])
        gate, up = dense(normed, layer["gate"]), dense(normed, layer["up"])
        if self.gemma:
            out = dense(gelu(gate) * up, layer["down"])
            return x + self.norm(out, layer["ff_out_norm"])
        return x + dense(gate / (1 + np.exp(-gate)) * up, layer["down"])

    def norm(self, x, weights):
        if self.gpt2:
            return norm(x, weights, self.config.norm_eps)
        scale = 1 + weights["scale"] if self.gemma else weights["scale"]
        return x / np.sqrt((x**2).mean() + self.config.norm_eps) * scale

    def turn(self, x, position, rope):
        """Rotary position: the pair (c, c + C / 2) is one complex number."""
        if rope is None:
            return x
        half = len(x) // 2
        speed = rope.theta ** (-np.arange(half) / half)
        turned = (x[:half] + 1j * x[half:]) * np.exp(1j * position * speed)
        return np.concatenate([turned.real, turned.imag])


def gelu(x):
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    return x * (1 + np.tanh(inner)) / 2


def dense(x, weights):
    return x @ weights["kernel"] + weights.get("bias", 0.0)


def expect(model, params, batch, slots, keep, prefer=by_score):
    """What every row of a batch should come to; `slots` are the columns of its tokens."""
    decoder = Decoder(model.config, params)
    answers = [
        decoder.prompt(batch["input_ids"][row, at], at, keep, prefer)
        for row, at in enumerate(slots)
    ]
    # Float32 could otherwise choose differently by rounding alone; pick another seed then.
    assert min(answer.margin for answer in answers) > 1e-4
    return answers
