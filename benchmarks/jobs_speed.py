"""Texts a second of an embedding model or a reranker: ours at several speeds, beside torch.

    python benchmarks/jobs_speed.py FOLDER --model MODEL --speedup 2,3
    python benchmarks/jobs_speed.py FOLDER --model MODEL --speedup 2,3 --candidates run.trec

FOLDER is a collection of BEIR. Ours is the Engine, dense and faster; torch is sentence-transformers
with the same dense weights (SentenceTransformer, or CrossEncoder for the candidates), in float32
and in bfloat16 and with several batch sizes, of which the fastest counts. All in turns in one
process, on the same texts; medians.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import numpy as np

import latadj_jax
from latadj_jax.data.beir import read_candidates, read_collection
from latadj_jax.model.buckets import default_buckets
from latadj_jax.timing import interleaved_ms, median

BATCH_SIZES = (16, 32, 64)  # of torch


def main() -> None:
    args = _parser().parse_args()
    task = "ranking" if args.candidates else "embedding"
    model, params = latadj_jax.from_pretrained(args.model, task, dtype=args.dtype)
    tokenizer = latadj_jax.load_tokenizer(args.model)
    collection = read_collection(Path(args.folder))
    if args.candidates:
        candidates = read_candidates(Path(args.candidates), collection)
        texts = [
            (collection.queries[query], collection.documents[key])
            for query, keys in candidates.items() for key in keys
        ]  # fmt: skip
    else:
        texts = [text for text in collection.documents.values() if text]
    chosen = np.random.default_rng(0).permutation(len(texts))[: args.texts]
    texts = [texts[n] for n in chosen]
    ids = tokenizer([t if isinstance(t, str) else t[0] for t in texts],
                    None if task == "embedding" else [t[1] for t in texts],
                    truncation=True, max_length=args.max_length)["input_ids"]  # fmt: skip
    lengths = [len(row) for row in ids]
    alphas = [model.solve_alpha(lengths, speedup) for speedup in args.speedup]
    engine = latadj_jax.Engine(
        model.replace(alpha=None), params, tokenizer, alphas=alphas,
        buckets=default_buckets(args.max_length), batch_sizes=(32,), truncate=True,
    ).warmup(repeats=1)  # fmt: skip
    runs = {"dense": lambda: engine(texts)}
    for speedup, alpha in zip(args.speedup, alphas, strict=True):
        runs[f"{speedup:g}x"] = lambda alpha=alpha: engine(texts, alpha=alpha)
    runs |= of_torch(args, model, params, tokenizer, texts)
    rates = {
        name: 1e3 * len(texts) / median(times)
        for name, times in interleaved_ms(runs, args.repeats).items()
    }
    fastest = max(rate for name, rate in rates.items() if name.startswith("torch"))
    print(f"{len(texts)} texts of {np.mean(lengths):.0f} tokens, {processor()}\n")
    print("| | texts a second | of dense | of the fastest torch |\n|---|---|---|---|")
    for name, rate in rates.items():
        print(f"| {name} | {rate:.1f} | {rate / rates['dense']:.2f} | {rate / fastest:.2f} |")


def processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().split("\n") if about.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} cores of {names[0]}" if names else platform.processor()


def of_torch(args, model, params, tokenizer, texts) -> dict:
    """The same weights in sentence-transformers: a run for each dtype and batch size."""
    import torch
    from sentence_transformers import CrossEncoder, SentenceTransformer

    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        latadj_jax.save_pretrained(folder, model, params, tokenizer)
        for dtype in (torch.float32, torch.bfloat16):
            if args.candidates:
                theirs = CrossEncoder(folder, device="cpu", max_length=args.max_length,
                                      model_kwargs={"torch_dtype": dtype})  # fmt: skip
                call = theirs.predict
            else:
                theirs = SentenceTransformer(folder, device="cpu",
                                             model_kwargs={"torch_dtype": dtype})  # fmt: skip
                theirs.max_seq_length = args.max_length
                call = theirs.encode
            for size in BATCH_SIZES:
                name = f"torch {str(dtype).removeprefix('torch.')}, batches of {size}"
                runs[name] = lambda call=call, size=size: call(
                    texts, batch_size=size, show_progress_bar=False
                )
    return runs


def _parser() -> argparse.ArgumentParser:
    def numbers(text):
        return tuple(map(float, text.split(",")))

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--model", required=True)
    parser.add_argument("--candidates")
    parser.add_argument("--speedup", type=numbers, default=(2.0, 3.0))
    parser.add_argument("--max_length", type=int, default=192)
    parser.add_argument("--texts", type=int, default=512, help="how many")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    return parser


if __name__ == "__main__":
    main()
