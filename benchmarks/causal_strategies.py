"""What to keep of a prompt: perplexity and far-back recall by strategy, profile and speed.

    python benchmarks/causal_strategies.py --model MODEL --text $DATA/lm/wikitext2/test.raw.txt \
        --layers constant,4-19 --strategies score,recent,recall --speedups 1.5,2,3 --out FILE.json

No fine-tuning. For each strategy and expected speedup of the prompt pass: the perplexity of 128
tokens after a pruned context of 512, windows spread evenly over the text; and facts planted in the
first quarter of a prompt of running text whose end asks for them (accuracy and perplexity of the
answer). `constant` removes the same share in every layer, `4-19` in layers 4 and 19 only.
"""

import argparse
import json
from pathlib import Path

import numpy as np

import latadj_jax
from latadj_jax import Profile
from latadj_jax.corpus import encode_text
from latadj_jax.far_back import planted_facts
from latadj_jax.files import read_text
from latadj_jax.likelihood import score_windows
from latadj_jax.text import load_tokenizer
from latadj_jax.windows import Pair, Windows

CONTEXT, CONTINUATION = 512, 128


def main(args: argparse.Namespace) -> None:
    model, params = latadj_jax.from_pretrained(args.model, "lm")
    tokenizer = load_tokenizer(args.model)
    ids = encode_text(tokenizer, read_text(args.text))
    windows = spread_windows(ids, args.windows)
    facts = as_windows(planted_facts(tokenizer, ids, CONTEXT, args.facts, seed=0))
    rows = []
    for layers in args.layers:
        profile = profile_of(layers, model.config.num_layers)
        for strategy in args.strategies:
            pruned = model.replace(profile=profile, strategy=strategy)
            for speedup in args.speedups:
                alpha = None
                if speedup > 1:
                    alpha = latadj_jax.solve_alpha(profile, CONTEXT, speedup)
                row = {"layers": layers, "strategy": strategy, "speedup": speedup, "alpha": alpha}
                rows.append({**row, **measure(pruned, params, alpha, windows, facts)})
                print(line(rows[-1]), flush=True)
                if args.out:
                    about = {**vars(args), "out": None}
                    text = json.dumps({"about": about, "rows": rows}, indent=1)
                    Path(args.out).write_text(text + "\n")


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


def profile_of(layers: str, num_layers: int) -> Profile:
    if layers == "constant":
        return Profile.constant(num_layers)
    return Profile.at_layers(num_layers, [int(n) for n in layers.split("-")])


def measure(model, params, alpha, windows: Windows, facts: Windows) -> dict:
    plan = model.plan(alpha, CONTEXT)
    text = score_windows(model, params, windows, plan, batch_size=4)
    far = score_windows(model, params, facts, plan, batch_size=4)
    return {
        "perplexity": text.perplexity,
        "window_nll": (-text.log_likelihood / text.tokens).tolist(),
        "fact_accuracy": float(far.greedy.mean()),
        "fact_perplexity": far.perplexity,
        "counts": plan.counts,
    }


def line(row: dict) -> str:
    return (
        f"{row['layers']:>9} {row['strategy']:>8} x{row['speedup']:<5} "
        f"perplexity {row['perplexity']:6.2f}  facts {row['fact_accuracy']:.2f} "
        f"(perplexity {row['fact_perplexity']:.2f})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--layers", type=lambda t: t.split(","), default=["constant"])
    parser.add_argument("--strategies", type=lambda t: t.split(","), default=["score"])
    parser.add_argument("--speedups", type=lambda t: [float(x) for x in t.split(",")], default=[2])
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--facts", type=int, default=48)
    parser.add_argument("--out")
    main(parser.parse_args())
