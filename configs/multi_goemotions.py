r"""GoEmotions (Demszky et al. 2020): which of 27 emotions a comment has, or none; several may hold.

    python train.py --config configs/multi_goemotions.py
    python train.py --config configs/multi_goemotions.py --config.data.path=$DATA/goemotions

The first command takes the data from the Hugging Face hub, the second train.tsv, dev.tsv and
test.tsv, whose labels are numbers with commas between. One checkpoint for all speeds: each step
trains the dense pass and three alphas, and the dense pass teaches the others. The elimination is
that of arXiv 2201.03327 but for the profile and for merging. docs/jobs.md has what one epoch
reaches; three have not been measured yet.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/multi_goemotions"

    cfg.model.source = "sentence-transformers/all-MiniLM-L6-v2"
    cfg.model.task = "multi-label"
    cfg.model.dropout = 0.1

    cfg.data.hub = "google-research-datasets/go_emotions"
    cfg.data.hub_config = "simplified"
    cfg.data.text_columns = ("text",)
    cfg.data.label_column = "labels"
    cfg.data.eval_splits = ("validation", "test")
    cfg.data.labels = (
        "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion",
        "curiosity", "desire", "disappointment", "disapproval", "disgust", "embarrassment",
        "excitement", "fear", "gratitude", "grief", "joy", "love", "nervousness", "optimism",
        "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral",
    )  # fmt: skip
    cfg.data.max_length = 64
    cfg.data.truncate = True

    cfg.data.eval_files = ("dev.tsv", "test.tsv")
    cfg.data.local_header = False
    cfg.data.local_text_columns = ("0",)
    cfg.data.local_label_column = "1"

    cfg.elimination.alpha = 0.97
    cfg.elimination.alphas = (1.15, 0.97, 0.8)  # of 6 layers about 1.5, 2 and 2.9 times as fast
    cfg.elimination.sandwich = True
    cfg.elimination.distill = 0.5
    cfg.elimination.fit = "falling"
    cfg.elimination.strategy = "merge"
    cfg.train.batch_size = 32
    cfg.train.epochs = 3.0
    cfg.train.learning_rate = 1e-4
    cfg.eval.alphas = (1.15, 0.97, 0.8)
    cfg.eval.metrics = ("f1_micro", "f1_macro", "exact_match")
    return cfg
