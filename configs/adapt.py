r"""A fine-tuned BERT made latency-adjustable on texts alone, without labels.

    python train.py --config configs/adapt.py --config.model.source=MODEL \
        --config.data.path=texts.txt

MODEL is a classifier, a folder or a hub id; texts.txt has a text in each line (or it is a .csv,
.tsv or .jsonl with a column "text"). What the model answers to them, dense, is what it learns to
answer with most word-vectors removed, at three speeds at once. A tenth of the texts is held out:
"accuracy" is how often the faster model agrees with the one that it was.

`latadj adapt MODEL --texts texts.txt` is the same with the task of the model, and with alphas that
are chosen for the texts. For pairs of texts
--config.data.text_columns="('sentence1','sentence2')"; for one number in place of classes
--config.model.task=regression --config.eval.metrics="('pearson',)"; for another teacher
--config.data.teacher=OTHER; for labels to compare with, in a column "label",
--config.data.label_column=label --config.data.teacher=MODEL.

The elimination is that of arXiv 2201.03327 but for the profile and for merging, the teaching that
of arXiv 1503.02531. docs/quality.md has what it costs. The alphas are those of 6 layers; of 12,
`solve_alpha(Profile.falling(12), 128, speedup)` gives 1.074, 0.992 and 0.906 for 1.5, 2 and 2.9.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/adapt"

    cfg.model.source = ""  # to be named
    cfg.model.dropout = 0.1

    cfg.data.text_columns = ("text",)
    cfg.data.label_column = ""
    cfg.data.max_length = 128
    cfg.data.truncate = True

    cfg.elimination.alpha = 0.97
    cfg.elimination.alphas = (1.15, 0.97, 0.8)  # of 6 layers about 1.5, 2 and 2.9 times as fast
    cfg.elimination.sandwich = True
    cfg.elimination.distill = 0.5
    cfg.elimination.fit = "falling"
    cfg.elimination.strategy = "merge"
    cfg.train.batch_size = 32
    cfg.train.epochs = 1.0  # more may be better: docs/quality.md
    cfg.train.learning_rate = 2e-5
    cfg.eval.alphas = (1.15, 0.97, 0.8)
    cfg.eval.metrics = ("accuracy",)
    return cfg
