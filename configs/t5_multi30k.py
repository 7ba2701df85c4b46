"""Multi30k (Elliott et al. 2016): English captions of pictures, to German.

    pip install '.[train,seq2seq]'
    python train.py --config configs/t5_multi30k.py --config.data.path=$DATA/seq2seq/multi30k

A small T5 and its tokenizer are trained from scratch, on files train.en and train.de beside val and
test_2016_flickr. Word-vectors of the English side are removed in the encoder. The method is that of
arXiv 2201.03327, the model that of arXiv 1910.10683.

The training took 21 minutes, beside other work. BLEU on test_2016_flickr: 22.0 dense, 21.4 at alpha
0.9, 19.6 at 0.8 (docs/results.md).
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/t5_multi30k"

    cfg.model.source = ""  # from scratch
    cfg.model.task = "seq2seq"
    cfg.model.dropout = 0.1
    cfg.model.scratch.vocab_size = 4000
    cfg.model.scratch.hidden_size = 192
    cfg.model.scratch.num_layers = 4
    cfg.model.scratch.num_decoder_layers = 2
    cfg.model.scratch.num_heads = 6

    cfg.data.hub = "bentrevett/multi30k"
    cfg.data.eval_splits = ("test",)
    cfg.data.train_file = "train.en"
    cfg.data.eval_files = ("test_2016_flickr.en",)
    cfg.data.text_columns = ("en",)
    cfg.data.label_column = "de"
    cfg.data.max_length = 64
    cfg.data.max_target_length = 64
    cfg.data.truncate = True

    cfg.elimination.alpha = 0.8
    cfg.elimination.calibration_examples = 0  # the profile of random weights means nothing
    cfg.train.batch_size = 32
    cfg.train.epochs = 12.0
    cfg.train.optimizer = "adafactor"
    cfg.train.weight_decay = 0.0
    cfg.train.learning_rate = 1e-2
    cfg.train.warmup = 0.1
    cfg.eval.metrics = ("bleu", "chrf")
    cfg.eval.batch_size = 64
    cfg.eval.alphas = (0.9, 0.8, 0.7, 0.6, 0.5)
    return cfg
