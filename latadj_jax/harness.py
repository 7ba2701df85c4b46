"""Models of this library for lm-evaluation-harness, under the name latadj_jax.

    python -m latadj_jax.harness --model latadj_jax --model_args path=MODEL,alpha=0.9 --tasks mmlu

The harness finds models by name once the module that registers them is imported; this one is, and
then is the harness's own command, with the tasks of harness_tasks/ added. Contexts are pruned, what
is scored or generated is read densely.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from latadj_jax.api import from_pretrained
from latadj_jax.batch import bucket_of, default_buckets, group, pad
from latadj_jax.continuation import continuation_logits
from latadj_jax.corpus import check_vocabulary
from latadj_jax.generation import stream
from latadj_jax.likelihood import score_pairs
from latadj_jax.model import rngs_for
from latadj_jax.plan import check_alpha
from latadj_jax.profile import Profile
from latadj_jax.text import load_tokenizer


@register_model("latadj_jax")
class Latadj(TemplateLM):
    """A causal or T5 model whose contexts are pruned at one alpha.

    Args:
      path: of the model, as `from_pretrained` has it.
      alpha: of the contexts' elimination; by default the model's own. "dense" is dense.
      layers: where to remove, e.g. "4-19", in place of the model's own profile.
      strategy: in place of the model's own.
      max_length: of context and continuation together; longer ones lose their oldest tokens.
      max_gen_toks: new tokens of a request that does not say how many.
    """

    def __init__(
        self,
        path: str,
        alpha: float | str | None = None,
        layers: str = "",
        strategy: str = "",
        dtype: str = "float32",
        batch_size: int | str = 8,
        max_length: int = 2048,
        max_gen_toks: int = 256,
        **options,
    ):
        super().__init__()
        unknown = sorted(set(options) - {"max_batch_size", "device"})  # which the harness passes
        if unknown:
            raise ValueError(f"--model_args has an unknown {unknown[0]!r}.")
        model, self.params = from_pretrained(path, dtype=dtype)
        if model.task not in ("lm", "seq2seq"):
            raise ValueError(f"{path} is a model for {model.task!r}; needed is a language model.")
        if layers:
            if not all(n.isdecimal() for n in str(layers).split("-")):
                raise ValueError(f"layers takes numbers of layers, e.g. 4-19; it is {layers!r}.")
            numbers = [int(n) for n in str(layers).split("-")]
            model = model.replace(profile=Profile.at_layers(model.config.num_layers, numbers))
        self.model = model.replace(strategy=strategy or model.strategy)
        self.alpha = model.alpha if alpha is None else None if alpha == "dense" else float(alpha)
        check_alpha(self.alpha)
        self.tokenizer = load_tokenizer(path)
        check_vocabulary(self.tokenizer, model.config.vocab_size)
        self.backend = "causal" if model.task == "lm" else "seq2seq"
        self.batch_size = 8 if batch_size == "auto" else int(batch_size)
        self.max_length = min(int(max_length), model.config.max_positions)
        self.max_gen_toks = int(max_gen_toks)

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def tokenizer_name(self) -> str:
        return str(getattr(self.tokenizer, "name_or_path", "")).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_) -> list[int]:
        if add_special_tokens is None:  # T5's sources end with </s>; a causal text is as it is
            add_special_tokens = self.backend == "seq2seq"
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens)

    def apply_chat_template(self, chat_history, add_generation_prompt: bool = True) -> str:
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    # Likelihoods.

    def _loglikelihood_tokens(self, requests, disable_tqdm: bool = False, **_):
        pairs = [self._cut(context, target) for _, context, target in requests]
        # The choices of a question are often one token each, after one context: read once.
        contexts = {context: n for n, context in enumerate({c for c, t in pairs if len(t) == 1})}
        following = self._next_log_probs(list(contexts))
        longer = [n for n, (_, target) in enumerate(pairs) if len(target) > 1]
        scored = self._score([pairs[n] for n in longer])
        results = {n: result for n, result in zip(longer, scored, strict=True)}
        for n, (context, target) in enumerate(pairs):
            if len(target) == 1:
                log_probs_V = following[contexts[context]]
                greedy = int(log_probs_V.argmax()) == target[0]
                results[n] = float(log_probs_V[target[0]]), greedy
            self.cache_hook.add_partial("loglikelihood", requests[n][0], results[n])
        return [results[n] for n in range(len(pairs))]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        totals = []
        for request in tqdm(requests, disable=disable_tqdm):
            (text,) = request.args
            windows = map(
                make_disjoint_window,
                get_rolling_token_windows(
                    self.tok_encode(text, add_special_tokens=False),
                    prefix_token=self.eot_token_id,
                    max_seq_len=self.max_length - 1,
                    context_len=1,
                ),
            )
            pairs = [(tuple(context), tuple(target)) for context, target in windows]
            totals.append(sum(log_prob for log_prob, _ in self._score(pairs)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), totals[-1])
        return totals

    def _cut(self, context: Sequence[int], target: Sequence[int]) -> tuple[tuple, tuple]:
        """The pair within `max_length`, the oldest tokens of the context cut off."""
        room = self.max_length - (len(target) if self.backend == "causal" else 0)
        if room < 1:
            raise ValueError(f"a continuation of {len(target)} tokens passes max_length.")
        return tuple(context[-room:]), tuple(target)

    def _score(self, pairs) -> list[tuple[float, bool]]:
        if not pairs:
            return []
        arrays = [tuple(np.array(ids, np.int32) for ids in pair) for pair in pairs]
        plan_of = functools.partial(self.model.plan, self.alpha)
        scored = score_pairs(self.model, self.params, arrays, plan_of, (), self.batch_size)
        return list(zip(scored.log_likelihood.tolist(), scored.greedy.tolist(), strict=True))

    def _next_log_probs(self, contexts: list[tuple[int, ...]]) -> np.ndarray:
        """Log-probabilities of the token after each context, float32 [N, V]."""
        result = np.zeros((len(contexts), self.model.config.vocab_size), np.float32)
        for indices, batch in self._batches(contexts):
            plan = self.model.plan(self.alpha, batch["input_ids"].shape[1])
            nothing = np.zeros((len(batch["input_ids"]), 0), np.int32)
            logits_B1V = continuation_logits(
                self.model, self.params, batch, nothing, plan=plan, rngs=rngs_for(plan)
            )
            result[indices] = np.asarray(jax.nn.log_softmax(logits_B1V[:, 0]))[: len(indices)]
        return result

    # Generation.

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        texts: list[str] = [""] * len(requests)
        by_options: dict[str, list[int]] = {}
        for n, request in enumerate(requests):
            by_options.setdefault(repr(sorted(request.args[1].items())), []).append(n)
        for members in by_options.values():
            options = dict(requests[members[0]].args[1])
            until = options.get("until") or []
            until = [until] if isinstance(until, str) else list(until)
            limit = int(options.get("max_gen_toks", self.max_gen_toks))
            room = self.max_length - (limit if self.backend == "causal" else 0)
            contexts = [tuple(self.tok_encode(requests[n].args[0])[-room:]) for n in members]
            for indices, batch in tqdm(list(self._batches(contexts)), disable=disable_tqdm):
                generated = self._generate(batch, until, limit, options)
                for n, text in zip(indices, generated, strict=False):
                    texts[members[n]] = text
                    self.cache_hook.add_partial("generate_until", requests[members[n]].args, text)
        return texts

    def _generate(self, batch, until: list[str], limit: int, options: dict) -> list[str]:
        """New texts up to the first of `until`, which is left out."""
        temperature = float(options.get("temperature") or 0.0) * bool(options.get("do_sample"))
        columns = []
        for column in stream(
            self.model,
            self.params,
            batch,
            self.alpha,
            limit,
            temperature=temperature,
            top_k=int(options.get("top_k") or 0) if temperature else 0,
            top_p=float(options.get("top_p") or 1.0) if temperature else 1.0,
            key=jax.random.key(0) if temperature else None,
        ):
            columns.append(column)
            if len(columns) % 8 == 0 and until:  # no need to go on once every text has ended
                texts = self._texts(columns)
                if all(any(stop in text for stop in until) for text in texts):
                    break
        return [_before(text, until) for text in self._texts(columns)]

    def _texts(self, columns) -> list[str]:
        rows = np.stack(columns, axis=1).tolist()
        return self.tokenizer.batch_decode(rows, skip_special_tokens=True)

    def _batches(self, contexts: list[tuple[int, ...]]):
        """(indices, batch) of contexts of one bucket each; a short batch repeats its first."""
        lengths = [len(context) for context in contexts]
        buckets = default_buckets(self.max_length)
        for indices, _ in group(lengths, buckets, self.batch_size) if contexts else ():
            rows = [*indices, *[indices[0]] * (self.batch_size - len(indices))]
            examples = [{"input_ids": np.array(contexts[n], np.int32)} for n in rows]
            longest = max(lengths[n] for n in rows)
            yield indices, pad(examples, bucket_of(longest, buckets))


def _before(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        if stop:
            text = text.split(stop)[0]
    return text


def main() -> None:
    """The harness's own command line, which knows this model and the tasks of harness_tasks/."""
    from lm_eval.__main__ import cli_evaluate

    if "--tasks" in sys.argv and "--include_path" not in sys.argv:
        sys.argv += ["--include_path", str(Path(__file__).parent / "harness_tasks")]
    try:
        cli_evaluate()
    except ValueError as error:
        sys.exit(f"latadj_jax.harness: {error}")


if __name__ == "__main__":
    main()
