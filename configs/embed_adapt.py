r"""A pretrained embedding model made latency-adjustable on texts alone, without labels.

    python train.py --config configs/embed_adapt.py --config.model.source=MODEL \
        --config.data.path=texts.txt

MODEL is a folder of sentence-transformers or a hub id; texts.txt has a text in each line, of the
kind that is to be embedded. The vectors that the model gives to them, dense, are what it learns to
give with most word-vectors merged and some layers skipped, at three speeds at once, and dense as
before. The alphas are for a model of 6 layers; with the last of them three are skipped. A tenth of
the texts is held out: "fidelity" is the mean cosine with the vectors that the model gave before.

`latadj adapt MODEL --texts texts.txt` is the same with alphas that are chosen for the texts. The
elimination is that of arXiv 2201.03327 but for the profile, merging and skipped layers, the
teaching that of arXiv 1503.02531. docs/jobs.md has what it costs.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/embed_adapt"

    cfg.model.source = "sentence-transformers/all-MiniLM-L6-v2"
    cfg.model.task = "embedding"
    cfg.model.dropout = 0.0  # as the teacher reads

    cfg.data.text_columns = ("text",)
    cfg.data.label_column = ""
    cfg.data.max_length = 192
    cfg.data.truncate = True

    cfg.elimination.alpha = 0.81
    cfg.elimination.alphas = (0.88, 0.81, 0.66)  # of 6 layers about 1.5, 2.3 and 5 times as fast
    cfg.elimination.depth = 0.5  # of each speedup, by layers
    cfg.elimination.min_tokens = 6  # the mean of one token that is left says little of a short text
    cfg.elimination.sandwich = True
    cfg.elimination.distill = 0.5
    cfg.elimination.calibration_examples = 0  # the same rate in all layers
    cfg.elimination.strategy = "distinct"
    cfg.train.batch_size = 32
    cfg.train.epochs = 3.0
    cfg.train.learning_rate = 1e-4
    cfg.eval.alphas = (0.88, 0.81, 0.66)
    cfg.eval.metrics = ("fidelity",)
    return cfg
