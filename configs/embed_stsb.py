r"""STS-B (Cer et al. 2017): embeddings whose cosines say how alike two sentences are.

    python train.py --config configs/embed_stsb.py
    python train.py --config configs/embed_stsb.py --config.data.path=$DATA/glue/stsb

The first command takes the data from the Hugging Face hub, the second train.tsv and dev.tsv. One
checkpoint for all speeds: each step trains the dense pass and three alphas with CoSENT, and the
dense pass teaches the others. The elimination is that of arXiv 2201.03327 but for the profile and
for merging. What it reaches has not been measured yet.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/embed_stsb"

    cfg.model.source = "sentence-transformers/all-MiniLM-L6-v2"
    cfg.model.task = "embedding"
    cfg.model.dropout = 0.1

    cfg.data.hub = "nyu-mll/glue"
    cfg.data.hub_config = "stsb"
    cfg.data.text_columns = ("sentence1", "sentence2")
    cfg.data.label_column = "label"
    cfg.data.max_length = 64
    cfg.data.truncate = True

    cfg.data.local_label_column = "score"

    cfg.elimination.alpha = 0.835
    cfg.elimination.alphas = (0.92, 0.835, 0.72)  # of 6 layers about 1.5, 2 and 3 times as fast
    cfg.elimination.sandwich = True
    cfg.elimination.distill = 0.5
    cfg.elimination.calibration_examples = 0  # the same rate in all layers
    cfg.elimination.strategy = "merge"
    cfg.train.batch_size = 32
    cfg.train.epochs = 4.0
    cfg.train.learning_rate = 5e-5
    cfg.eval.alphas = (0.92, 0.835, 0.72)
    cfg.eval.metrics = ("spearman", "pearson")
    return cfg
