r"""Question answering on SQuAD 1.1: a BERT that finds answers in texts, at three speeds at once.

    python train.py --config configs/qa_squad.py
    python train.py --config configs/qa_squad.py --config.data.path=$DATA/squad

The first command takes the data from the Hugging Face hub. The second reads SQuAD's own files,
train-v1.1.json and dev-v1.1.json; --config.data.train_file=NAME takes another, also JSON lines with
"question", "context" and "answers". Windows are those of Hugging Face's run_qa: 384 tokens, 128 of
them shared. The report gives F1 and exact match as SQuAD's own script counts them, as shares.

--config.elimination.protected=32 keeps CLS and the first 31 tokens of every question through all
layers. A fine-tuned model is made adjustable without answers by --config.data.label_column='' and
--config.model.source=MODEL: its own dense logits are learned then. Questions without an answer, as
in version 2, are read as they come: --config.data.hub=rajpurkar/squad_v2.

The elimination is that of arXiv 2201.03327 but for the profile, for merging, and for what goes
first: tokens whose answer is settled. The alphas are those of 12 layers and 384 tokens: about 1.5,
2 and 2.9 times as fast.

docs/jobs.md has MiniLM's scores, good at 1.5x and low at 2x. BERT-base has not been run by this
project yet.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/qa_squad"

    cfg.model.source = "bert-base-uncased"
    cfg.model.task = "question-answering"
    cfg.model.dropout = 0.1

    cfg.data.hub = "rajpurkar/squad"
    cfg.data.text_columns = ("question", "context")
    cfg.data.label_column = "answers"
    cfg.data.train_file = "train-v1.1.json"
    cfg.data.eval_files = ("dev-v1.1.json",)
    cfg.data.max_length = 384
    cfg.data.stride = 128

    cfg.elimination.alpha = 0.992
    cfg.elimination.alphas = (1.069, 0.992, 0.902)
    cfg.elimination.sandwich = True
    cfg.elimination.distill = 0.5
    cfg.elimination.fit = "falling"
    cfg.elimination.strategy = "undecided"
    cfg.train.batch_size = 32
    cfg.train.epochs = 2.0
    cfg.train.learning_rate = 3e-5
    cfg.eval.alphas = (1.069, 0.992, 0.902)
    cfg.eval.metrics = ("f1", "exact_match")
    return cfg
