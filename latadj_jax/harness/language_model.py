"""Models of this library for lm-evaluation-harness, under the name latadj_jax.

The harness finds models by name once the module that registers them is imported. Contexts are
pruned; what is scored or generated is read densely.
"""

import functools
import inspect
from collections.abc import Sequence

import jax
import numpy as np
from tqdm import tqdm

from latadj_jax.data.encoded import Encoded
from latadj_jax.elimination.alpha import parse_alpha
from latadj_jax.elimination.profile import Profile
from latadj_jax.evaluation.likelihood import score_pairs
from latadj_jax.generation.continuation import continuation_logits
from latadj_jax.generation.generate import generate, stream
from latadj_jax.model.buckets import default_buckets
from latadj_jax.model.model import rngs_for
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import check_vocabulary, load_tokenizer

try:  # an extra
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise ImportError(
        f"latadj_jax.harness needs lm-evaluation-harness ({error}); it comes with: "
        "pip install 'latadj_jax[lm-eval]'"
    ) from None

# What a task may say of generation.
OPTIONS = {"until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p", "num_beams"}


@register_model("latadj_jax")
class Latadj(TemplateLM):
    """A causal or T5 model whose contexts are pruned at one alpha.

    Args:
      path: of the model, as `from_pretrained` has it.
      alpha: of the contexts' elimination; by default the model's own. "dense" is dense.
      layers: where to remove, e.g. "4+19", in place of the model's own profile.
      strategy: in place of the model's own.
      max_length: of context and continuation together; longer ones lose their oldest tokens.
      max_gen_toks: new tokens of a request that does not say how many.
      seed: of sampling.
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
        seed: int = 0,
        **options,
    ):
        super().__init__()
        unknown = sorted(set(options) - {"max_batch_size", "device"})  # which the harness passes
        if unknown:
            known = ", ".join(list(inspect.signature(type(self)).parameters)[:-1])
            raise ValueError(f"--model_args has an unknown {unknown[0]!r}; it may have {known}.")
        model, self.params = from_pretrained(path, dtype=dtype)
        if not model.record.writes:
            raise ValueError(f"{path} is a model for {model.task!r}; needed is a language model.")
        if layers:
            if not all(n.isdecimal() for n in str(layers).split("+")):
                raise ValueError(f"layers takes numbers of layers, e.g. 4+19; it is {layers!r}.")
            numbers = [int(n) for n in str(layers).split("+")]
            model = model.replace(profile=Profile.at_layers(model.config.num_layers, numbers))
        self.model = model.replace(strategy=strategy or model.strategy)
        self.alpha = model.alpha if alpha is None else parse_alpha(str(alpha))
        self.tokenizer = load_tokenizer(path)
        check_vocabulary(self.tokenizer, model.config.vocab_size)
        self.backend = {"continuation": "causal", "target": "seq2seq"}[model.record.writes]
        self.batch_size = 8 if str(batch_size).startswith("auto") else int(batch_size)
        self.max_length = min(int(max_length), model.config.max_positions)
        self.max_gen_toks = int(max_gen_toks)
        self.seed, self.draws = int(seed), 0

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        """What stands before a text without a context."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else bos

    @property
    def tokenizer_name(self) -> str:
        return str(getattr(self.tokenizer, "name_or_path", "")).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_) -> list[int]:
        """Special tokens are the tokenizer's own: a T5's source ends </s>, a Llama's begins <s>.

        But a text that begins with it, as chat templates write it, gets no second one.
        """
        bos = self.tokenizer.bos_token
        has_own = add_special_tokens is None and bos and string.startswith(bos)
        add = not has_own and add_special_tokens is not False
        return self.tokenizer.encode(string, add_special_tokens=add)

    def apply_chat_template(self, chat_history, add_generation_prompt: bool = True) -> str:
        return self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    # Likelihoods.

    def _loglikelihood_tokens(self, requests, disable_tqdm: bool = False, **_):
        pairs = [self._pair(context, target) for _, context, target in requests]
        longer = [n for n, (_, target) in enumerate(pairs) if len(target) > 1]
        results = dict(zip(longer, self._score([pairs[n] for n in longer]), strict=True))
        results |= self._score_next({n: p for n, p in enumerate(pairs) if len(p[1]) == 1})
        for n, request in enumerate(requests):
            self.cache_hook.add_partial("loglikelihood", request[0], results[n])
        return [results[n] for n in range(len(pairs))]

    def loglikelihood_rolling(self, requests, disable_tqdm: bool = False) -> list[float]:
        """Of whole texts. Windows overlap by half, so that all but the first have a context that
        can be pruned; the first `max_length` tokens of a text have none, and are read densely."""
        pairs, of_text = [], []
        for n, request in enumerate(requests):
            windows = get_rolling_token_windows(
                self.tok_encode(request.args[0], add_special_tokens=False),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length - 1,
                context_len=self.max_length // 2,
            )
            for context, target in map(make_disjoint_window, windows):
                pairs.append((tuple(context), tuple(target)))
                of_text.append(n)
        totals = np.zeros(len(requests))
        np.add.at(totals, of_text, [log_prob for log_prob, _ in self._score(pairs)])
        for request, total in zip(requests, totals.tolist(), strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals.tolist()

    def _pair(self, context: Sequence[int], target: Sequence[int]) -> tuple[tuple, tuple]:
        """A pair that can be scored: the newest tokens of its context that `max_length` has."""
        if not target:
            raise ValueError("a continuation has no tokens of its own: it must not be empty.")
        room = self._room(len(target), f"a continuation of {len(target)} tokens")
        return tuple(context[-room:]) or (self.prefix_token_id,), tuple(target)

    def _room(self, following: int, what: str) -> int:
        """How many tokens of a context fit before so many more."""
        room = self.max_length - (following if self.backend == "causal" else 0)
        if room < 1:
            raise ValueError(
                f"{what} leaves no room for a context in max_length {self.max_length}."
            )
        return room

    def _score(self, pairs) -> list[tuple[float, bool]]:
        if not pairs:
            return []
        arrays = [tuple(np.array(ids, np.int32) for ids in pair) for pair in pairs]
        plan_of = functools.partial(self.model.plan, self.alpha)
        scored = score_pairs(self.model, self.params, arrays, plan_of, (), self.batch_size)
        return list(zip(scored.log_likelihood.tolist(), scored.greedy.tolist(), strict=True))

    def _score_next(self, pairs: dict[int, tuple]) -> dict[int, tuple[float, bool]]:
        """As `_score`, of single tokens: the choices after one context, which is read once."""
        wanted: dict[tuple, list[tuple[int, int]]] = {}
        for n, (context, (token,)) in pairs.items():
            wanted.setdefault(context, []).append((n, token))
        contexts, results = list(wanted), {}
        for indices, batch in self._batches(contexts):
            plan = self.model.plan(self.alpha, batch["input_ids"].shape[1])
            nothing = np.zeros((len(batch["input_ids"]), 0), np.int32)
            logits_B1V = continuation_logits(
                self.model, self.params, batch, nothing, plan=plan, rngs=rngs_for(plan)
            )
            log_probs_BV = np.asarray(jax.nn.log_softmax(logits_B1V[:, 0]))
            for row, i in enumerate(indices):
                best = int(log_probs_BV[row].argmax())
                for n, token in wanted[contexts[i]]:
                    results[n] = float(log_probs_BV[row, token]), token == best
        return results

    # Generation.

    def generate_until(self, requests, disable_tqdm: bool = False) -> list[str]:
        texts: list[str] = [""] * len(requests)
        by_options: dict[str, list[int]] = {}
        for n, request in enumerate(requests):
            by_options.setdefault(repr(sorted(request.args[1].items())), []).append(n)
        for members in by_options.values():
            options = dict(normalize_gen_kwargs(requests[members[0]].args[1], self.max_gen_toks))
            if unknown := sorted(set(options) - OPTIONS):
                raise ValueError(f"the generation option {unknown[0]!r} is not known here.")
            limit = options["max_gen_toks"]
            room = self._room(limit, f"max_gen_toks {limit}")
            contexts = [self.tok_encode(requests[n].args[0]) for n in members]
            contexts = [tuple(ids[-room:]) or (self.prefix_token_id,) for ids in contexts]
            for indices, batch in tqdm(list(self._batches(contexts)), disable=disable_tqdm):
                generated = self._generate(batch, limit, options)
                for n, text in zip(indices, generated, strict=False):
                    texts[members[n]] = text
                    request = requests[members[n]]
                    self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    def _generate(self, batch, limit: int, options: dict) -> list[str]:
        """New texts up to the first of `until`, which is left out."""
        until = [stop for stop in options["until"] if stop]
        # A special token is in no decoded text: it stops by its id.
        special = self.tokenizer.get_added_vocab()
        ends = [*self.model.config.eos_tokens]
        ends = list(dict.fromkeys([*ends, *(special[stop] for stop in until if stop in special)]))
        temperature = float(options.get("temperature", 1.0)) if options["do_sample"] else 0.0
        sampling = {}
        if temperature:
            self.draws += 1
            key = jax.random.fold_in(jax.random.key(self.seed), self.draws)
            top_k, top_p = int(options.get("top_k") or 0), float(options.get("top_p") or 1.0)
            sampling = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "key": key}
        rngs = rngs_for(self.model.plan(self.alpha, batch["input_ids"].shape[1]))
        if (beams := int(options.get("num_beams") or 1)) > 1:
            rows = generate(
                self.model, self.params, batch, self.alpha, limit, num_beams=beams, rngs=rngs,
                stop_tokens=ends, **sampling,
            )  # fmt: skip
            return [_before(text, until) for text in self._texts(np.asarray(rows), ends)]
        columns, model = [], self.model
        for column in stream(
            model, self.params, batch, self.alpha, limit, rngs=rngs, stop_tokens=ends, **sampling
        ):
            columns.append(column)
            if len(columns) % 8 == 0 and until:  # no need to go on once every text has ended
                rows = np.stack(columns, axis=1)
                ended = np.isin(rows, ends).any(axis=1)
                found = [any(stop in text for stop in until) for text in self._texts(rows, ends)]
                if (ended | found).all():
                    break
        rows = np.stack(columns, axis=1)
        return [_before(text, until) for text in self._texts(rows, ends)]

    def _texts(self, rows: np.ndarray, ends: Sequence[int]) -> list[str]:
        """Each row up to its first end, after which there is padding."""
        sizes = (~np.isin(rows, ends)).cumprod(axis=1).sum(axis=1)
        rows = [row[:size].tolist() for row, size in zip(rows, sizes, strict=True)]
        return self.tokenizer.batch_decode(rows, skip_special_tokens=True)

    def _batches(self, contexts: list[tuple[int, ...]]):
        """(indices, batch) of all contexts, in few shapes."""
        examples = [{"input_ids": np.array(context, np.int32)} for context in contexts]
        unlabelled = Encoded(examples, np.zeros(len(examples), np.int32))
        return unlabelled.batches(default_buckets(self.max_length), self.batch_size)


def _before(text: str, stops: Sequence[str]) -> str:
    for stop in stops:
        text = text.split(stop)[0]
    return text
