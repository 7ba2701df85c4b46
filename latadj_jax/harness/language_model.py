"""Models of this library for lm-evaluation-harness, under the name latadj_jax.

The harness finds models by name once the module that registers them is imported. Contexts are
pruned; what is scored or generated is read densely.
"""

import functools
import inspect
import logging

import jax
import numpy as np
from tqdm import tqdm

from latadj_jax.data.encoded import Encoded
from latadj_jax.elimination.alpha import parse_alpha
from latadj_jax.elimination.profile import Profile
from latadj_jax.evaluation.likelihood import score_pairs
from latadj_jax.generation.continuation import continuation_logits
from latadj_jax.generation.generate import generate, stream
from latadj_jax.harness.requests import Ids, RequestEncoder
from latadj_jax.harness.stops import Stops
from latadj_jax.model.buckets import default_buckets
from latadj_jax.model.model import rngs_for
from latadj_jax.pretrained.load import from_pretrained, language_model_task
from latadj_jax.pretrained.tokenizers import load_tokenizer

try:  # an extra
    from jinja2 import TemplateError
    from lm_eval.api.model import TemplateLM
    from lm_eval.api.registry import register_model
    from lm_eval.models.utils import normalize_gen_kwargs
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
except ImportError as error:
    raise ImportError(
        f"latadj_jax.harness needs lm-evaluation-harness ({error}); it comes with: "
        "pip install 'latadj_jax[lm-eval]'"
    ) from None

log = logging.getLogger(__name__)

# What a task may say of generation.
OPTIONS = {"until", "max_gen_toks", "do_sample", "temperature", "top_k", "top_p", "num_beams"}
BACKENDS = {"lm": "causal", "seq2seq": "seq2seq"}  # of tasks, as the harness names them
SWITCH = {"true": True, "false": False, "none": None}  # of model_args, given as texts or not


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
      task: "lm" or "seq2seq"; by default what the checkpoint's architecture is for, or the family's
        own kind of language model where it names none.
      add_bos_token: what stands in front of a context: None, what the tokenizer puts there; False,
        no special token; True, the BOS token, too, where the tokenizer adds none.
      strict: False leaves tensors behind that no class of the family is known to have.

    Raises:
      ValueError: one sentence that names the argument, or what the checkpoint lacks.
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
        task: str | None = None,
        add_bos_token: bool | str | None = None,
        strict: bool | str = True,
        **options,
    ):
        super().__init__()
        unknown = sorted(set(options) - {"max_batch_size", "device"})  # which the harness passes
        if unknown:
            known = ", ".join(list(inspect.signature(type(self)).parameters)[:-1])
            raise ValueError(f"--model_args has an unknown {unknown[0]!r}; it may have {known}.")
        if task not in (None, *BACKENDS):
            raise ValueError(f"task is {' or '.join(BACKENDS)}; it is {task!r}.")
        bos, strict = _switch("add_bos_token", add_bos_token), _switch("strict", strict)
        task = task or language_model_task(path)
        model, self.params = from_pretrained(path, task=task, dtype=dtype, strict=strict)
        if layers:
            if not all(n.isdecimal() for n in str(layers).split("+")):
                raise ValueError(f"layers takes numbers of layers, e.g. 4+19; it is {layers!r}.")
            numbers = [int(n) for n in str(layers).split("+")]
            model = model.replace(profile=Profile.at_layers(model.config.num_layers, numbers))
        self.model = model.replace(strategy=strategy or model.strategy)
        self.alpha = model.alpha if alpha is None else parse_alpha(str(alpha))
        self.tokenizer = load_tokenizer(path)
        self.backend = BACKENDS[task]
        self.encoder = RequestEncoder.of(
            self.tokenizer, model.config, self.backend == "seq2seq", bos
        )
        self.batch_size = 8 if str(batch_size).startswith("auto") else int(batch_size)
        self.max_length = min(int(max_length), model.config.max_positions)
        self.max_gen_toks = int(max_gen_toks)
        self.seed, self.draws = int(seed), 0

    @property
    def eot_token_id(self) -> int | None:
        return self.tokenizer.eos_token_id

    @property
    def tokenizer_name(self) -> str:
        return str(getattr(self.tokenizer, "name_or_path", "")).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_) -> list[int]:
        """Ids of a context; without special tokens around it if `add_special_tokens` is False."""
        encode = self.encoder.ids if add_special_tokens is False else self.encoder.context
        return list(encode(string))

    def apply_chat_template(self, chat_history, add_generation_prompt: bool = True) -> str:
        """The turns as one text; a template that refuses a system turn gets the others."""
        render = functools.partial(
            self.tokenizer.apply_chat_template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        try:
            return render(chat_history)
        except TemplateError as error:
            others = [turn for turn in chat_history if turn["role"] != "system"]
            if len(others) == len(chat_history):
                raise
            log.warning("the chat template refuses the system turn, which is left out: %s", error)
            return render(others)

    # Likelihoods.

    def loglikelihood(self, requests, disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Of each continuation after its context, and whether it is the most likely one.

        Raises:
          ValueError: as `RequestEncoder.pair`; a continuation as long as `max_length`.
        """
        encoded = [(request.args, *self.encoder.pair(*request.args)) for request in requests]
        return self._loglikelihood_tokens(encoded)

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
        can be pruned; the first `max_length` tokens of a text have none, and are read densely.
        A text is scored as after an empty context."""
        pairs, of_text = [], []
        for n, request in enumerate(requests):
            if not self.encoder.ids(request.args[0]):
                continue
            start, ids = self.encoder.pair("", request.args[0])
            windows = get_rolling_token_windows(
                list(ids),
                prefix_token=start[0],
                max_seq_len=self.max_length - len(start),
                context_len=self.max_length // 2,
            )
            for i, (context, target) in enumerate(map(make_disjoint_window, windows)):
                pairs.append((tuple(context) if i else start, tuple(target)))
                of_text.append(n)
        totals = np.zeros(len(requests))
        np.add.at(totals, of_text, [log_prob for log_prob, _ in self._score(pairs)])
        for request, total in zip(requests, totals.tolist(), strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals.tolist()

    def _pair(self, context: Ids, target: Ids) -> tuple[Ids, Ids]:
        """A pair that can be scored: the newest tokens of its context that `max_length` has."""
        # The last token of a continuation is not read: nothing is scored after it.
        room = self._room(len(target) - 1, f"a continuation of {len(target)} tokens")
        return tuple(context[-room:]), tuple(target)

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
            stops = Stops.of(self.tokenizer, self.model.config, options["until"])
            contexts = [self.encoder.context(requests[n].args[0])[-room:] for n in members]
            for indices, batch in tqdm(list(self._batches(contexts)), disable=disable_tqdm):
                generated = self._generate(batch, limit, options, stops)
                for n, text in zip(indices, generated, strict=False):
                    texts[members[n]] = text
                    request = requests[members[n]]
                    self.cache_hook.add_partial("generate_until", request.args, text)
        return texts

    def _generate(self, batch, limit: int, options: dict, stops: Stops) -> list[str]:
        """New texts up to their stops."""
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
                stop_tokens=stops.tokens, **sampling,
            )  # fmt: skip
            return [stops.text_of(row) for row in np.asarray(rows).tolist()]
        columns, model = [], self.model
        for column in stream(
            model, self.params, batch, self.alpha, limit, rngs=rngs, stop_tokens=stops.tokens,
            **sampling,
        ):  # fmt: skip
            columns.append(column)
            # No need to go on once every text has ended.
            if len(columns) % 8 == 0 and stops.reached(np.stack(columns, axis=1)):
                break
        return [stops.text_of(row) for row in np.stack(columns, axis=1).tolist()]

    def _batches(self, contexts: list[tuple[int, ...]]):
        """(indices, batch) of all contexts, in few shapes."""
        examples = [{"input_ids": np.array(context, np.int32)} for context in contexts]
        unlabelled = Encoded(examples, np.zeros(len(examples), np.int32))
        return unlabelled.batches(default_buckets(self.max_length), self.batch_size)


def _switch(name: str, value: bool | str | None) -> bool | None:
    if str(value).lower() not in SWITCH:
        raise ValueError(f"{name} is True or False; it is {value!r}.")
    return SWITCH[str(value).lower()]
