"""Your own CSV (or .tsv, .jsonl): a text and a label in each row.

    python train.py --config configs/text_csv.py --config.data.path=reviews.csv

For other columns add --config.data.text_columns="('body',)" --config.data.label_column=stars; two
text columns make a pair. From one file a tenth is held out for the evaluation: always the same
rows, in the shares of the labels, and never a text that the training part has too. A folder with
train.csv and dev.csv is used as it is. The label names are read from the data; set
config.data.labels to fix their order. A text of more than max_length tokens is refused, or cut with
--config.data.truncate=True. For a target that is a number:
--config.model.task=regression --config.eval.metrics="('pearson',)". For a model of another family
than BERT: --config.elimination.strategy=score. The method is that of arXiv 2201.03327, and the
training settings lie in the paper's ranges.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/text_csv"

    cfg.model.source = "bert-base-uncased"
    cfg.model.dropout = 0.1

    cfg.data.train_file = "train.csv"
    cfg.data.eval_files = ("dev.csv",)
    cfg.data.text_columns = ("text",)
    cfg.data.label_column = "label"
    cfg.data.max_length = 128

    cfg.elimination.alpha = 0.9
    cfg.elimination.fit = "falling"  # "quadratic" is the paper's, calibrated by ACC
    cfg.elimination.strategy = "merge"  # "score" forgets what is removed, as in the paper
    cfg.train.batch_size = 32
    cfg.train.epochs = 3.0
    cfg.train.learning_rate = 2e-5
    cfg.eval.metrics = ("accuracy", "f1")
    return cfg
