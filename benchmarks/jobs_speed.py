"""Texts a second of any job: ours at several speeds, beside torch and onnxruntime.

    python benchmarks/jobs_speed.py embedding --model MODEL --texts texts.txt --speedup 2,3
    python benchmarks/jobs_speed.py classification --labels 2 --model MODEL --texts reviews.txt
    python benchmarks/jobs_speed.py ranking --model MODEL --texts pairs.tsv --out runs/speed.json

--texts has a text in each line, or a pair with a tab between. Ours is the Engine, dense and faster.
Torch has the same dense weights: sentence-transformers for embeddings and pairs that are ranked,
transformers for the rest, in float32 and bfloat16 and with two batch sizes. onnxruntime runs
the dense float32 graphs of `latadj export`. Both run with all cores for each batch, and with a
share of the texts for each core ("at once"). Tokenizing counts. All take turns in one process, on
the same texts; medians. The weights of a head do not change the times: a pretrained model without
one will do, if its profile is the one that is meant (--depth, --min_tokens, --strategy).
"""

import argparse
import contextlib
import copy
import dataclasses
import functools
import json
import os
import platform
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np

import latadj_jax
from latadj_jax.elimination.profile import Profile
from latadj_jax.model.buckets import default_buckets
from latadj_jax.serving.export_onnx import export_onnx
from latadj_jax.serving.onnx_engine import OnnxEngine
from latadj_jax.timing import interleaved_ms, median

BATCH_SIZES = (16, 32)  # of torch
CORES = os.cpu_count() or 1
AUTO = {  # transformers' class of each job
    "classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
}


def main() -> None:
    args = _parser().parse_args()
    model, params = latadj_jax.from_pretrained(
        args.model, args.job, num_labels=args.labels, dtype=args.dtype
    )
    tokenizer = latadj_jax.load_tokenizer(args.model)
    model = described(model, args)
    texts = read(args.texts, args.number)
    pairs = None if isinstance(texts[0], str) else [text[1] for text in texts]
    firsts = texts if pairs is None else [text[0] for text in texts]
    ids = tokenizer(firsts, pairs, truncation=True, max_length=args.max_length)["input_ids"]
    lengths = [len(row) for row in ids]
    alphas = [model.solve_alpha(lengths, speedup) for speedup in args.speedup]
    buckets = default_buckets(args.max_length)
    engine = latadj_jax.Engine(
        model.replace(alpha=None), params, tokenizer, alphas=alphas, buckets=buckets,
        batch_sizes=args.batch_sizes, truncate=True,
    ).compile_as_needed()  # fmt: skip
    runs = {"dense": lambda: engine(texts)}
    for speedup, alpha in zip(args.speedup, alphas, strict=True):
        runs[f"{speedup:g}x"] = lambda alpha=alpha: engine(texts, alpha=alpha)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        dense = model.replace(alpha=None)
        latadj_jax.save_pretrained(f"{folder}/model", dense, params, tokenizer)
        runs |= of_torch(f"{folder}/model", texts, tokenizer, args)
        if args.dtype == "float32":
            export_onnx(f"{folder}/onnx", dense, params, tokenizer, buckets=buckets)
            onnx = functools.partial(
                OnnxEngine, f"{folder}/onnx", batch_sizes=args.batch_sizes, truncate=True
            )
            theirs = stack.enter_context(onnx()).compile_as_needed()
            on_one_core = stack.enter_context(onnx(threads=1)).compile_as_needed()
            runs["onnxruntime float32"] = lambda: theirs(texts)
            runs["onnxruntime float32, at once"] = lambda: at_once([on_one_core] * CORES, texts)
        times = interleaved_ms(runs, args.repeats)
    rates = {name: 1e3 * len(texts) / median(ms) for name, ms in times.items()}
    report(rates, len(texts), float(np.mean(lengths)), args)


def described(model, args):
    """The model with the profile and strategy that are asked for."""
    if args.strategy:
        model = model.replace(strategy=args.strategy)
    if args.depth is None:
        return model
    layers = model.config.num_layers
    profile = Profile.constant(layers) if args.profile == "constant" else Profile.falling(layers)
    return model.replace(
        profile=dataclasses.replace(profile.path(args.depth), min_tokens=args.min_tokens)
    )


def read(file: str, number: int) -> list:
    """So many of the texts, or of the pairs, drawn from the file."""
    lines = [line for line in Path(file).read_text("utf-8").split("\n") if line.strip()]
    chosen = np.random.default_rng(0).permutation(len(lines))[:number]
    rows = [lines[n].split("\t") for n in chosen]
    return [row[0] if len(row) == 1 else tuple(row[:2]) for row in rows]


def at_once(calls: list[Callable[[list], object]], texts: list) -> None:
    """Each has a share of the texts."""
    shares = [texts[n :: len(calls)] for n in range(len(calls))]
    with ThreadPoolExecutor(len(calls)) as pool:
        list(pool.map(lambda call, share: call(share), calls, shares))


# ---- torch ------------------------------------------------------------------------------------


def of_torch(folder: str, texts: list, tokenizer, args) -> dict[str, Callable]:
    """The same weights: a run for each dtype and batch size."""
    import torch

    runs = {}
    for dtype in (getattr(torch, name) for name in args.torch_dtypes):
        # Threads must not share a tokenizer.
        calls = [caller(folder, dtype, copy.deepcopy(tokenizer), args) for _ in range(CORES)]
        for size in BATCH_SIZES:
            sized = [functools.partial(call, size=size) for call in calls]
            name = f"torch {str(dtype).removeprefix('torch.')}, batches of {size}"
            runs[name] = functools.partial(sized[0], texts)
            runs[f"{name}, at once"] = functools.partial(_torch_at_once, sized, texts)
    return runs


def _torch_at_once(calls: list[Callable[[list], object]], texts: list) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # of each of the threads that begin now
    try:
        at_once(calls, texts)
    finally:
        torch.set_num_threads(threads)


def caller(folder: str, dtype, tokenizer, args) -> Callable[[list, int], object]:
    """A function of texts and a batch size."""
    if args.job == "embedding":
        from sentence_transformers import SentenceTransformer

        embedder = SentenceTransformer(folder, device="cpu", model_kwargs={"torch_dtype": dtype})
        embedder.max_seq_length = args.max_length
        return lambda texts, size: embedder.encode(texts, batch_size=size, show_progress_bar=False)
    if args.job == "ranking":
        from sentence_transformers import CrossEncoder

        ranker = CrossEncoder(
            folder, device="cpu", max_length=args.max_length, model_kwargs={"torch_dtype": dtype}
        )
        return lambda texts, size: ranker.predict(texts, batch_size=size, show_progress_bar=False)
    return transformers_caller(folder, dtype, tokenizer, args)


def transformers_caller(folder: str, dtype, tokenizer, args) -> Callable[[list, int], object]:
    """Of texts of like length together, as sentence-transformers does it."""
    import torch
    import transformers

    theirs = getattr(transformers, AUTO[args.job]).from_pretrained(
        folder, dtype=dtype, attn_implementation="sdpa"
    )
    theirs.eval()

    def call(texts: list, size: int) -> list:
        order = sorted(range(len(texts)), key=lambda n: -len(texts[n]))
        found: list = [None] * len(texts)
        for start in range(0, len(texts), size):
            chosen = order[start : start + size]
            batch = tokenizer(
                [texts[n] for n in chosen], padding=True, truncation=True,
                max_length=args.max_length, return_tensors="pt",
            )  # fmt: skip
            with torch.inference_mode():
                logits = theirs(**batch).logits.float().numpy()
            for n, row in zip(chosen, logits, strict=True):
                found[n] = row
        return found

    return call


# ---- what is written --------------------------------------------------------------------------


def report(rates: dict[str, float], number: int, length: float, args) -> None:
    others = {name: rate for name, rate in rates.items() if name.startswith(("torch", "onnx"))}
    fastest = max(others, key=others.__getitem__)
    print(f"{number} texts of {length:.0f} tokens, {processor()}, jax {jax.__version__}\n")
    print("| | texts a second | of dense | of the fastest other |\n|---|---|---|---|")
    for name, rate in rates.items():
        print(
            f"| {name} | {rate:.1f} | {rate / rates['dense']:.2f} | {rate / others[fastest]:.2f} |"
        )
    if args.out:
        file = Path(args.out)
        found = json.loads(file.read_text()) if file.exists() else {}
        found[args.name or args.job] = {
            "model": args.model, "texts": number, "tokens": round(length, 1),
            "processor": processor(), "jax": jax.__version__, "dtype": args.dtype,
            "texts_per_s": {name: round(rate, 2) for name, rate in rates.items()},
            "fastest_other": fastest,
        }  # fmt: skip
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found, indent=1) + "\n")


def processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().split("\n") if about.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.processor()


def _parser() -> argparse.ArgumentParser:
    def numbers(text):
        return tuple(map(float, text.split(",")))

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("job", choices=("embedding", "ranking", *AUTO))
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--labels", type=int, help="of a new head, if the model has none")
    parser.add_argument("--depth", type=float, help="share of a speedup that comes from layers")
    parser.add_argument("--profile", choices=("falling", "constant"), default="falling")
    parser.add_argument("--min_tokens", type=int, default=1)
    parser.add_argument("--strategy", default="")
    parser.add_argument("--speedup", type=numbers, default=(2.0, 3.0))
    parser.add_argument("--max_length", type=int, default=192)
    parser.add_argument("--number", type=int, default=512, help="how many texts")
    parser.add_argument(
        "--batch_sizes", type=lambda text: tuple(map(int, text.split(","))), default=(1, 8, 32),
        help="of ours",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument(
        "--torch_dtypes", type=lambda text: text.split(","), default=["float32", "bfloat16"]
    )
    parser.add_argument("--name", help="of this row in --out")
    parser.add_argument("--out", help="a JSON file, to which the row is added")
    return parser


if __name__ == "__main__":
    main()
