"""RTE (Dagan et al. 2006 and later): does one text follow from another.

    python train.py --config configs/bert_rte.py
    python train.py --config configs/bert_rte.py --config.data.path=$DATA/glue/rte

The first command takes the data from the Hugging Face hub. The second reads the GLUE files
train.tsv and dev.tsv. The input length is that of the latency-adjustable transformer paper (arXiv
2201.03327); the training settings lie in its ranges, but need not be its choice for this task.

Neither the time it takes nor the score has been measured by this project yet.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/bert_rte"

    cfg.model.source = "bert-base-uncased"
    cfg.model.dropout = 0.1

    cfg.data.hub = "nyu-mll/glue"
    cfg.data.hub_config = "rte"
    cfg.data.text_columns = ("sentence1", "sentence2")
    cfg.data.label_column = "label"
    cfg.data.labels = ("entailment", "not_entailment")
    cfg.data.max_length = 256
    cfg.data.truncate = True

    cfg.elimination.alpha = 0.9
    cfg.elimination.fit = "falling"  # "quadratic" is the paper's, calibrated by ACC
    cfg.elimination.strategy = "merge"  # "score" forgets what is removed, as in the paper
    cfg.train.batch_size = 16
    cfg.train.epochs = 5.0
    cfg.train.learning_rate = 2e-5
    cfg.eval.metrics = ("accuracy",)
    return cfg
