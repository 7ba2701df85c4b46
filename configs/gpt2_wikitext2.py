"""WikiText-2 (Merity et al. 2016): the next word of running text.

    python train.py --config configs/gpt2_wikitext2.py --config.data.path=$DATA/lm/wikitext2
    python train.py --config configs/gpt2_wikitext2.py --config.model.source=gpt2 \
        --config.elimination.calibration_examples=128 --config.train.learning_rate=1e-5 \
        --config.train.weight_decay=0.01 --config.train.epochs=3 --config.lm.stride=128

The first command trains a small GPT-2 and its tokenizer from scratch, on files train.txt and
valid.txt; a profile measured on random weights would mean nothing, so alpha alone acts. The second
fine-tunes GPT-2 of the Hugging Face hub, on data from there, with the settings of the
latency-adjustable transformer paper (arXiv 2201.03327): batch 8, stride 128, 3 epochs, dropout 0.1,
alpha 0.9 (its range is 0.9 to 1.2). Removed word-vectors are restored for the training loss;
perplexity is that of tokens after a pruned context, so nothing leaks.

The first command takes an hour on a shared CPU core, and ends at perplexity 152 on valid.txt, dense
and at alpha 0.9 (docs/results.md); the second was not run.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/gpt2_wikitext2"

    cfg.model.source = ""  # from scratch
    cfg.model.task = "lm"
    cfg.model.dropout = 0.1
    cfg.model.scratch.vocab_size = 8192
    cfg.model.scratch.hidden_size = 256
    cfg.model.scratch.num_layers = 6
    cfg.model.scratch.num_heads = 8
    cfg.model.scratch.max_positions = 512

    cfg.data.hub = "Salesforce/wikitext"
    cfg.data.hub_config = "wikitext-2-raw-v1"
    cfg.data.train_file = "train.txt"
    cfg.data.eval_files = ("valid.txt",)

    cfg.lm.window = 384
    cfg.lm.stride = 384  # every token once
    cfg.lm.context = 256
    cfg.lm.continuation = 128

    cfg.elimination.alpha = 0.9
    cfg.elimination.calibration_examples = 0
    cfg.train.batch_size = 8
    cfg.train.epochs = 1.0
    cfg.train.learning_rate = 1e-3
    cfg.train.warmup = 0.02
    cfg.train.weight_decay = 0.1
    cfg.eval.metrics = ("perplexity",)
    cfg.eval.batch_size = 8
    cfg.eval.alphas = (1.2, 1.0, 0.95, 0.9, 0.8)
    return cfg
