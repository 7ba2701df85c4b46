"""QNLI (Wang et al. 2019, from SQuAD): does a sentence hold the answer to a question.

    python train.py --config configs/bert_qnli.py
    python train.py --config configs/bert_qnli.py --config.data.path=$DATA/glue/qnli

The first command takes the data from the Hugging Face hub. The second reads the GLUE files
train.tsv and dev.tsv. The input length is that of the latency-adjustable transformer paper (arXiv
2201.03327); the training settings lie in its ranges, but need not be its choice for this task.

Neither the time it takes nor the score has been measured by this project yet.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/bert_qnli"

    cfg.model.source = "bert-base-uncased"
    cfg.model.dropout = 0.1

    cfg.data.hub = "nyu-mll/glue"
    cfg.data.hub_config = "qnli"
    cfg.data.text_columns = ("question", "sentence")
    cfg.data.label_column = "label"
    cfg.data.labels = ("entailment", "not_entailment")
    cfg.data.max_length = 128
    cfg.data.truncate = True

    cfg.elimination.alpha = 0.9
    cfg.elimination.fit = "falling"  # "quadratic" is the paper's, calibrated by ACC
    cfg.elimination.strategy = "merge"  # "score" forgets what is removed, as in the paper
    cfg.train.batch_size = 32
    cfg.train.epochs = 3.0
    cfg.train.learning_rate = 2e-5
    cfg.eval.metrics = ("accuracy",)
    return cfg
