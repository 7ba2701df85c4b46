"""What one GPU does: parity of every family, then times, dense and pruned, beside torch.

    python benchmarks/gpu.py --out gpu.json   # within 8 minutes; what is not begun then is left out
    python benchmarks/gpu.py --tiny           # tiny models, on whatever device there is

Needs jax for CUDA, the extra [train], and for its columns torch and transformers. Prints a table
for each section as it is done, and JSON at the end. Times are medians, in turns, with the arrays on
the device; "bf16" is the dtype of weights and arithmetic. Memory is the highest since the start.
"""

import argparse
import dataclasses
import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from variants import Variant

import latadj_jax
from latadj_jax.families.registry import config_from_hf
from latadj_jax.timing import interleaved_ms, median

ROOT = Path(__file__).parent.parent
BERT_BASE = json.loads((ROOT / "benchmarks" / "runtimes" / "bert_base.json").read_text())
LLAMA_1B = {
    "model_type": "llama", "vocab_size": 128_256, "hidden_size": 2048, "num_hidden_layers": 16,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 8192,
    "max_position_embeddings": 16_384, "rms_norm_eps": 1e-5, "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    "architectures": ["LlamaForCausalLM"],
}  # fmt: skip
SMALL = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2,
         "intermediate_size": 128, "vocab_size": 1000}  # fmt: skip
SMALL_LLAMA = {**SMALL, "num_hidden_layers": 4, "num_key_value_heads": 1, "head_dim": 32}


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
      shapes: batch and length of the encoder's passes.
      prompts: lengths; `cut` names the strategy and the layers that remove, see variants.py.
      step: batch and length of a training step.
      turns: of each timing.
    """

    bert: dict
    llama: dict
    shapes: tuple[tuple[int, int], ...]
    prompts: tuple[int, ...]
    cut: str
    new_tokens: int
    step: tuple[int, int]
    turns: int


FULL = Sizes(
    BERT_BASE, LLAMA_1B, ((1, 128), (8, 128), (32, 128), (32, 512), (128, 512)), (2048, 8192),
    "recall@2-10", 64, (32, 128), 30,
)  # fmt: skip
TINY = Sizes(
    {**BERT_BASE, **SMALL}, {**LLAMA_1B, **SMALL_LLAMA}, ((1, 16), (4, 32)), (32, 64), "recall@1-2",
    4, (4, 16), 3,
)  # fmt: skip
SPEEDUPS = (1.0, 2.0, 3.0)


class Report:
    """Rows by section, and the time that is left."""

    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds
        self.rows: list[dict] = []

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self._end

    def add(self, section: str, **row) -> None:
        stats = jax.devices()[0].memory_stats() or {}
        row = {"section": section, **row, "peak_mb": stats.get("peak_bytes_in_use", 0) // 2**20}
        before = self.rows[-1] if self.rows else {}
        if before.keys() != row.keys() or before["section"] != section:
            print(f"\n| {' | '.join(row)} |\n{'|---' * len(row)}|")
        shown = (f"{x:.4g}" if isinstance(x, float) else str(x) for x in row.values())
        print(f"| {' | '.join(shown)} |", flush=True)
        self.rows.append(row)


# ---- sections ---------------------------------------------------------------------------------


def parity(report: Report, sizes: Sizes) -> None:
    """The greatest difference between the device and a CPU, in float32, dense and pruned."""
    import tiny

    device, cpu = jax.devices()[0], jax.devices("cpu")[0]
    for family in tiny.FAMILIES:
        model, params = tiny.make(family, tiny.main_task(family))
        batch, _ = tiny.mixed_batch(family)
        row = {}
        for name, alpha in (("dense", None), ("pruned", 0.8)):
            found = []
            for where in (device, cpu):
                with jax.default_device(where), jax.default_matmul_precision("highest"):
                    args = jax.device_put((params, batch), where)
                    found.append(latadj_jax.apply(model, *args, alpha))
            own, other = (np.asarray(out.hidden) for out in found)
            row[name] = float(np.abs(own - other).max())
        row["same_kept"] = bool((found[0].positions == found[1].positions).all())
        report.add("parity", family=family, **row)
        if report.is_late:
            return


def encoder(report: Report, sizes: Sizes) -> None:
    """A BERT for classification, bf16."""
    model, params = in_bf16(sizes.bert, "classification")
    model = model.replace(profile=latadj_jax.Profile.constant(model.config.num_layers))
    for batch, length in sizes.shapes:
        inputs = ids_of(model, batch, length)
        runs = {
            f"ours, {name_of(speedup)}": functools.partial(
                compiled_pass(model, length, speedup), params, inputs
            )
            for speedup in SPEEDUPS
        }
        runs |= torch_encoders(sizes.bert, batch, length)
        times = {name: median(ms) for name, ms in interleaved_ms(runs, sizes.turns, 4000).items()}
        fastest = min(ms for name, ms in times.items() if name.endswith("dense"))
        for name, ms in times.items():
            over_own, over_fastest = times["ours, dense"] / ms, fastest / ms
            report.add("encoder, bf16", shape=f"{batch}x{length}", what=name, ms=ms,
                       over_ours_dense=over_own, over_fastest_dense=over_fastest)  # fmt: skip
        if report.is_late:
            return


def prompts(report: Report, sizes: Sizes) -> None:
    """A random Llama, bf16: the prompt's pass to the first token, and each later token."""
    model, params = in_bf16(sizes.llama, "lm")
    model = Variant.parse(sizes.cut).of(model)
    for length in sizes.prompts:
        inputs, runs, speedups = ids_of(model, 1, length), {}, {}
        for speedup in SPEEDUPS:
            plan = model.plan(alpha_of(model, length, speedup), length)
            name = name_of(speedup)
            speedups[name] = latadj_jax.expected_speedup(plan)
            for number in (1, sizes.new_tokens):
                runs[name, number] = functools.partial(
                    latadj_jax.generate, model, params, inputs, None, number, plan=plan,
                    stop_tokens=(),
                )  # fmt: skip
        turns = max(3, sizes.turns // 5)
        times = {key: median(ms) for key, ms in interleaved_ms(runs, turns, 4000).items()}
        for name in speedups:
            first, all_ms = times[name, 1], times[name, sizes.new_tokens]
            report.add("prompt, bf16", length=length, what=name, expected=speedups[name],
                       first_token_ms=first, measured=times["dense", 1] / first,
                       later_token_ms=(all_ms - first) / (sizes.new_tokens - 1))  # fmt: skip
        if report.is_late:
            return


def engine(report: Report, sizes: Sizes) -> None:
    """From token ids on the host to rows on the host, through the engine and through its queue."""
    import tiny_run

    model, params = in_bf16(sizes.bert, "classification")
    model = model.replace(profile=latadj_jax.Profile.constant(model.config.num_layers))
    length = sizes.shapes[0][1]
    alphas = tuple(alpha_of(model, length, speedup) for speedup in SPEEDUPS[:2])
    with tempfile.TemporaryDirectory() as folder:
        words = tiny_run.tokenizer(Path(folder))
    options = {"alphas": alphas, "buckets": (length,), "batch_sizes": (1, 32), "max_wait_ms": 0.0}
    with latadj_jax.Engine(model, params, words, **options) as served:
        served.warmup(repeats=sizes.turns)
        texts = list(np.asarray(ids_of(model, 32, length)["input_ids"]))
        for number in (1, 32):
            for alpha in alphas:
                runs = {
                    "call": lambda n=number, a=alpha: served(texts[:n], alpha=a),
                    "submit": lambda n=number, a=alpha: [
                        reply.result() for reply in [served.submit(t, alpha=a) for t in texts[:n]]
                    ],
                }
                times = interleaved_ms(runs, sizes.turns, 2000)
                ms = {f"{name}_ms": median(of) for name, of in times.items()}
                report.add("engine, bf16", texts=number, alpha=alpha or "dense", **ms)


def training(report: Report, sizes: Sizes) -> None:
    """A step of AdamW on a BERT for classification, arithmetic in bf16."""
    from latadj_jax.training.optimizer import make_optimizer
    from latadj_jax.training.settings import TrainSettings
    from latadj_jax.training.steps import Step, first_state, train_step

    batch, length = sizes.step
    model = latadj_jax.Model(config_from_hf(sizes.bert), "classification", dtype="bfloat16")
    model = model.replace(profile=latadj_jax.Profile.constant(model.config.num_layers))
    optimizer = make_optimizer(TrainSettings(), 1000)
    rows = {**ids_of(model, batch, length), "attention_mask": np.ones((batch, length), bool),
            "labels": np.zeros(batch, np.int32), "weights": np.ones(batch, np.float32)}  # fmt: skip
    times: dict[float, list[float]] = {}
    for speedup in SPEEDUPS[:2]:
        plan = model.plan(alpha_of(model, length, speedup), length)
        what = Step(model, optimizer, (plan,))
        state = first_state(model, optimizer, latadj_jax.init_params(model))
        key, times[speedup] = jax.random.key(0, impl="rbg"), []
        for _ in range(sizes.turns):
            start = time.perf_counter()
            state, loss = train_step(what, state, rows, key)
            float(loss)
            times[speedup].append(1e3 * (time.perf_counter() - start))
        ms = median(times[speedup][2:] or times[speedup])
        report.add("training step, bf16", shape=f"{batch}x{length}", what=name_of(speedup), ms=ms,
                   tokens_a_second=1e3 * batch * length / ms,
                   first_step_s=times[speedup][0] / 1e3)  # fmt: skip


SECTIONS: tuple[Callable[[Report, Sizes], None], ...] = (
    parity, encoder, prompts, engine, training,
)  # fmt: skip


# ---- what they share --------------------------------------------------------------------------


def in_bf16(config: dict, task: str):
    model = latadj_jax.Model(config_from_hf(config), task, dtype="bfloat16")
    params = jax.jit(
        lambda: jax.tree.map(lambda x: x.astype("bfloat16"), latadj_jax.init_params(model))
    )
    return model, params()


def ids_of(model, batch: int, length: int) -> dict[str, jax.Array]:
    ids = np.random.default_rng(0).integers(1, model.config.vocab_size, (batch, length))
    return jax.device_put({"input_ids": ids.astype(np.int32)})


def alpha_of(model, length: int, speedup: float) -> float | None:
    return None if speedup == 1 else latadj_jax.solve_alpha(model.profile, length, speedup)


def name_of(speedup: float) -> str:
    return "dense" if speedup == 1 else f"{speedup:g}x"


def compiled_pass(model, length: int, speedup: float):
    plan = model.plan(alpha_of(model, length, speedup), length)

    @jax.jit
    def logits(params, inputs):
        return latadj_jax.apply(model, params, inputs, plan=plan).logits

    return logits


def torch_encoders(config: dict, batch: int, length: int) -> dict[str, Callable[[], object]]:
    """transformers' BERT by sdpa, eager and compiled; nothing without torch."""
    try:
        import torch
        import transformers
    except ImportError:
        return {}
    where = "cuda" if torch.cuda.is_available() else "cpu"
    options = {key: value for key, value in config.items() if key != "architectures"}
    config = transformers.BertConfig(**options, attn_implementation="sdpa")
    model = transformers.BertForSequenceClassification(config).eval().to(where, torch.bfloat16)
    ids = torch.randint(1, config.vocab_size, (batch, length), device=where)

    def run(call) -> None:
        with torch.inference_mode():
            call(input_ids=ids)
        if where == "cuda":
            torch.cuda.synchronize()

    runs = {"torch, dense": functools.partial(run, model)}
    if where == "cuda":  # elsewhere it needs a C++ compiler, and proves nothing here
        torch._dynamo.reset()
        runs["torch compiled, dense"] = functools.partial(run, torch.compile(model))
    return runs


def main(args: argparse.Namespace) -> None:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory, too
    sys.path.insert(0, str(ROOT / "tests" / "support"))  # tiny models of every family
    device, report = jax.devices()[0], Report(args.seconds)
    about = {"device": device.device_kind, "platform": device.platform, "jax": jax.__version__,
             "tiny": args.tiny, "sections": []}  # fmt: skip
    print(f"{about['device']} ({about['platform']}), jax {about['jax']}")
    for section in SECTIONS:
        if args.sections and section.__name__ not in args.sections:
            continue
        if report.is_late:
            print(f"\nno time was left for: {section.__name__}")
            continue
        section(report, TINY if args.tiny else FULL)
        about["sections"].append(section.__name__)
    text = json.dumps({"about": about, "rows": report.rows}, indent=1)
    if args.out:
        Path(args.out).write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="tiny models: that it runs")
    parser.add_argument("--out", metavar="FILE.json")
    parser.add_argument("--seconds", type=float, default=400, help="after which nothing is begun")
    parser.add_argument(
        "--sections", type=lambda text: text.split(","), metavar="NAME[,NAME]",
        help=", ".join(section.__name__ for section in SECTIONS),
    )  # fmt: skip
    main(parser.parse_args())
