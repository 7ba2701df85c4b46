"""QQP (Quora question pairs): do two questions ask the same.

    python train.py --config configs/bert_qqp.py
    python train.py --config configs/bert_qqp.py --config.data.path=$DATA/glue/qqp

The first command takes the data from the Hugging Face hub. The second reads train.tsv and dev.tsv
with quoted fields; files of GLUE itself are not quoted: --config.data.local_quoting=False. A few of
their rows lack columns, and are refused; `awk -F '\\t' 'NF == 6'` leaves them out. The input length
is that of the latency-adjustable transformer paper (arXiv 2201.03327); the training settings lie in
its ranges, but need not be its choice for this task.

MiniLM's scores on it, dense and at several speeds, with settings of their own, are in
docs/quality.md. BERT-base has not been run by this project yet.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/bert_qqp"

    cfg.model.source = "bert-base-uncased"
    cfg.model.dropout = 0.1

    cfg.data.hub = "nyu-mll/glue"
    cfg.data.hub_config = "qqp"
    cfg.data.text_columns = ("question1", "question2")
    cfg.data.label_column = "label"
    cfg.data.labels = ("not_duplicate", "duplicate")
    cfg.data.max_length = 128
    cfg.data.truncate = True

    cfg.data.local_label_column = "is_duplicate"
    cfg.data.local_quoting = True

    cfg.elimination.alpha = 0.9
    cfg.elimination.fit = "falling"  # "quadratic" is the paper's, calibrated by ACC
    cfg.elimination.strategy = "merge"  # "score" forgets what is removed, as in the paper
    cfg.train.batch_size = 32
    cfg.train.epochs = 3.0
    cfg.train.learning_rate = 2e-5
    cfg.eval.metrics = ("f1", "accuracy")
    return cfg
