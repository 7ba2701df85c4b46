r"""WikiQA (Yang et al. 2015): a cross-encoder that ranks sentences as answers to a question.

    python train.py --config configs/rerank_wikiqa.py
    python train.py --config configs/rerank_wikiqa.py --config.data.path=$DATA/wikiqa

The first command takes the data from the Hugging Face hub, the second WikiQA-*.txt, whose columns
have no names. One checkpoint for all speeds: each step trains the dense pass and three alphas, and
the dense pass teaches the others. MAP and MRR are over the questions that have a right answer, as
is usual. The elimination is that of arXiv 2201.03327 but for the profile and for merging. What
MiniLM reaches is in docs/jobs.md, with its command.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/rerank_wikiqa"

    cfg.model.source = "sentence-transformers/all-MiniLM-L6-v2"
    cfg.model.task = "ranking"
    cfg.model.dropout = 0.1

    cfg.data.hub = "microsoft/wiki_qa"
    cfg.data.text_columns = ("question", "answer")
    cfg.data.label_column = "label"
    cfg.data.eval_splits = ("validation", "test")
    cfg.data.max_length = 128
    cfg.data.truncate = True

    cfg.data.train_file = "WikiQA-train.txt"
    cfg.data.eval_files = ("WikiQA-dev.txt", "WikiQA-test.txt")
    cfg.data.local_header = False
    cfg.data.local_text_columns = ("0", "1")
    cfg.data.local_label_column = "2"

    cfg.elimination.alpha = 0.97
    cfg.elimination.alphas = (1.15, 0.97, 0.8)  # of 6 layers about 1.5, 2 and 2.9 times as fast
    cfg.elimination.sandwich = True
    cfg.elimination.distill = 0.5
    cfg.elimination.fit = "falling"
    cfg.elimination.strategy = "merge"
    cfg.train.batch_size = 32
    cfg.train.epochs = 3.0
    cfg.train.learning_rate = 5e-5
    cfg.eval.alphas = (1.15, 0.97, 0.8)
    cfg.eval.metrics = ("map", "mrr", "ndcg")
    return cfg
