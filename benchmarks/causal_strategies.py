"""What to keep of a prompt: perplexity and far-back facts by strategy, profile and speed.

    python benchmarks/causal_strategies.py --model MODEL --text $DATA/lm/wikitext2/test.raw.txt \
        --variants recent@3-7,recall@4-19,score@constant --speedups 1.5,2,3 --out FILE.json
    python benchmarks/causal_strategies.py --table FILE.json

No fine-tuning. For each variant and expected speedup of the prompt pass: the perplexity of 128
tokens after a pruned context of 512, windows spread evenly over the text; and facts planted in the
first quarter of a prompt of running text whose end asks for them (accuracy and perplexity of the
answer). `constant` removes the same share in every layer, `4-19` in layers 4 and 19 only. The table
compares each variant with the first one at the same speed, window by window.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from planted_facts import planted_facts
from variants import Variant, alpha_of

import latadj_jax
from latadj_jax.data.text_files import read_text
from latadj_jax.data.windows import Pair, Windows
from latadj_jax.evaluation.likelihood import score_windows
from latadj_jax.pretrained.tokenizers import encode_text, load_tokenizer

CONTEXT, CONTINUATION = 512, 128


def main(args: argparse.Namespace) -> None:
    model, params = latadj_jax.from_pretrained(args.model, "lm")
    tokenizer = load_tokenizer(args.model)
    ids = encode_text(tokenizer, read_text(args.text))
    windows = spread_windows(ids, args.windows)
    facts = as_windows(planted_facts(tokenizer, ids, CONTEXT, args.facts, seed=0))
    rows = [{"variant": "dense", "speedup": 1, **measure(model, params, None, windows, facts)}]
    for variant in args.variants:
        pruned = variant.of(model)
        for speedup in args.speedups:
            alpha = alpha_of(pruned, CONTEXT, speedup)
            measured = measure(pruned, params, alpha, windows, facts)
            rows.append({"variant": str(variant), "speedup": speedup, **measured})
            if args.out:
                about = {"windows": args.windows, "facts": args.facts}
                text = json.dumps({"about": about, "rows": rows}, indent=1)
                Path(args.out).write_text(text + "\n")
    print(table(rows))


def spread_windows(ids: np.ndarray, num: int) -> Windows:
    """`num` windows whose starts are spread evenly over the text."""
    starts = np.linspace(0, len(ids) - CONTEXT - CONTINUATION, num).astype(int)
    rows = np.stack([ids[start : start + CONTEXT + CONTINUATION] for start in starts])
    weights = np.ones((num, CONTINUATION), np.float32)
    return Windows(rows[:, :CONTEXT], rows[:, CONTEXT:], weights)


def as_windows(pairs: list[Pair]) -> Windows:
    """Pairs of full contexts, in the shape of the other windows: one compilation serves both."""
    continuation = np.zeros((len(pairs), CONTINUATION), np.int32)
    weights = np.zeros((len(pairs), CONTINUATION), np.float32)
    for row, (_, answer) in enumerate(pairs):
        continuation[row, : len(answer)] = answer
        weights[row, : len(answer)] = 1
    return Windows(np.stack([context for context, _ in pairs]), continuation, weights)


def measure(model, params, alpha: float | None, windows: Windows, facts: Windows) -> dict:
    plan = model.plan(alpha, CONTEXT)
    text = score_windows(model, params, windows, plan, batch_size=4)
    far = score_windows(model, params, facts, plan, batch_size=4)
    return {
        "alpha": alpha,
        "counts": plan.counts,
        "perplexity": text.perplexity,
        "window_nll": (-text.log_likelihood / text.tokens).tolist(),
        "fact_accuracy": float(far.greedy.mean()),
        "fact_perplexity": far.perplexity,
    }


def table(rows: list[dict]) -> str:
    """Markdown, by speed: perplexity over dense and over the first variant (mean, standard error
    of the windows' paired differences), and the facts."""
    dense, *pruned = rows
    baseline = pruned[0]["variant"] if pruned else ""
    lines = [
        f"| expected speedup | variant | perplexity | over dense | over {baseline} | facts right |"
        " perplexity of facts |",
        "|---" * 7 + "|",
    ]
    for row in [dense, *sorted(pruned, key=lambda row: row["speedup"])]:
        over = f"{100 * (row['perplexity'] / dense['perplexity'] - 1):+.1f} %"
        same_speed = [
            r for r in pruned if (r["variant"], r["speedup"]) == (baseline, row["speedup"])
        ]
        against = ""
        if same_speed and row["variant"] != baseline:
            d = np.subtract(row["window_nll"], same_speed[0]["window_nll"])
            error = d.std(ddof=1) / np.sqrt(len(d))
            against = f"{100 * np.expm1(d.mean()):+.1f} ± {100 * error:.1f} %"
        cells = (
            f"{row['speedup']:g}",
            row["variant"],
            f"{row['perplexity']:.2f}",
            over,
            against,
            f"{row['fact_accuracy']:.2f}",
            f"{row['fact_perplexity']:.1f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--text")
    parser.add_argument("--variants", type=lambda t: [Variant.parse(x) for x in t.split(",")])
    parser.add_argument("--speedups", type=lambda t: [float(x) for x in t.split(",")], default=[2])
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--facts", type=int, default=24)
    parser.add_argument("--out")
    parser.add_argument("--table", nargs="+", help="prints the rows of these files as one table")
    args = parser.parse_args()
    if args.table:
        results = [json.loads(Path(file).read_text()) for file in args.table]
        if any(result["about"] != results[0]["about"] for result in results):
            parser.error("the files of --table differ in their windows or facts.")
        dense = results[0]["rows"][0]
        print(table([dense, *(row for result in results for row in result["rows"][1:])]))
    elif not (args.model and args.text and args.variants):
        parser.error("--model, --text and --variants are needed, or --table.")
    else:
        main(args)
