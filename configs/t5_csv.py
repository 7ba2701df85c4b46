"""Your own CSV (or .tsv, .jsonl): a source text in each row, and the target that T5 should write.

    pip install '.[train,seq2seq]'
    python train.py --config configs/t5_csv.py --config.data.path=pairs.csv

For other columns add --config.data.text_columns="('question',)" --config.data.label_column=answer.
A prompt such as "summarize: " belongs into the source column. From one file a tenth is held out for
the evaluation: always the same rows, and never a source that the training part has too. A folder
with train.csv and dev.csv is used as it is. A text of more than max_length or max_target_length
tokens is refused, or cut with --config.data.truncate=True. Elimination as in arXiv 2201.03327,
which runs Flan-T5 with a profile of 1 everywhere: alpha alone acts.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/t5_csv"

    cfg.model.source = "google/flan-t5-small"
    cfg.model.task = "seq2seq"
    cfg.model.dropout = 0.1

    cfg.data.train_file = "train.csv"
    cfg.data.eval_files = ("dev.csv",)
    cfg.data.text_columns = ("source",)
    cfg.data.label_column = "target"
    cfg.data.max_length = 512
    cfg.data.max_target_length = 128

    cfg.elimination.alpha = 0.95
    cfg.elimination.calibration_examples = 0
    cfg.train.batch_size = 16
    cfg.train.epochs = 3.0
    cfg.train.learning_rate = 1e-4
    cfg.eval.metrics = ("bleu", "chrf", "exact_match")
    cfg.eval.batch_size = 16
    cfg.eval.alphas = (0.98, 0.95, 0.9, 0.85, 0.8)
    return cfg
