"""A training step with the dropout of layers/dropout.py, with that of flax, and with none.

    python benchmarks/dropout_speed.py --batch_size 32 --length 64 --repeats 15

BERT of MiniLM's shape (6 layers, 384 wide) with random weights, classifying: loss, gradients and
AdamW's update, dense, dropout 0.1 of attention probabilities and hidden states, in the layers by
ours or flax's. The compiled steps
take turns in one process; medians. "longer" is the median over the turns of how much longer a step
is than the one without dropout in the same turn.
"""

import argparse
import dataclasses

import jax
import numpy as np
from flax import linen as nn

import latadj_jax
from latadj_jax.families.encoders import bert
from latadj_jax.families.encoders.bert import Bert, BertConfig, BertLayer
from latadj_jax.families.registry import FAMILIES, config_from_hf
from latadj_jax.timing import interleaved_ms, median
from latadj_jax.training.optimizer import make_optimizer
from latadj_jax.training.settings import TrainSettings
from latadj_jax.training.steps import Step, first_state, train_step

MINILM = {"model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6,
          "num_attention_heads": 12, "intermediate_size": 1536, "max_position_embeddings": 512,
          "type_vocab_size": 2}  # fmt: skip


class FlaxDropout(nn.Module):
    """flax's, called as ours."""

    rate: float

    @nn.compact
    def __call__(self, x, train):
        return nn.Dropout(self.rate)(x, deterministic=not train)


class OtherLayer(BertLayer):
    dropout = FlaxDropout


class OtherBert(Bert):
    layer = OtherLayer


class OtherConfig(BertConfig):
    model_type = "bert with flax's dropout"


FAMILIES[OtherConfig.model_type] = dataclasses.replace(
    bert.FAMILY, config=OtherConfig, module=OtherBert
)


def step_with(family: str, rate: float, generator: str, dtype: str, args):
    """A function without arguments that does one step, compiled."""
    config = config_from_hf({**MINILM, "model_type": family})
    model = latadj_jax.Model(config, "classification", dtype=dtype)
    model = model.replace(config=model.config.with_dropout(rate))
    params = latadj_jax.init_params(model)
    optimizer = make_optimizer(TrainSettings(), 100)
    what = Step(model, optimizer, (model.plan(None, args.length),))
    shape, rng = (args.batch_size, args.length), np.random.default_rng(0)
    batch = {
        "input_ids": rng.integers(1000, 30000, shape).astype(np.int32),
        "attention_mask": np.ones(shape, bool),
        "labels": rng.integers(0, 2, args.batch_size).astype(np.int32),
        "weights": np.ones(args.batch_size, np.float32),
    }
    key = jax.random.key(0, impl=generator)
    state = first_state(model, optimizer, params)
    step = train_step.lower(what, state, batch, key).compile()
    now = [state]

    def run():
        now[0], loss = step(now[0], batch, key)
        return loss

    return run


def main(args: argparse.Namespace) -> None:
    print("| dtype | generator | dropout | ms a step | longer |\n|---|---|---|---|---|")
    for dtype in args.dtypes:
        runs = {("", "none"): step_with("bert", 0.0, "rbg", dtype, args)}
        for generator in ("rbg", "threefry2x32"):
            runs[generator, "ours, a byte"] = step_with("bert", 0.1, generator, dtype, args)
            runs[generator, "flax's"] = step_with(
                OtherConfig.model_type, 0.1, generator, dtype, args
            )
        times = interleaved_ms(runs, args.repeats)
        for (generator, name), ms in times.items():
            ratio = np.median(np.array(ms) / np.array(times["", "none"]))
            print(
                f"| {dtype} | {generator} | {name} | {median(ms):.0f} | {ratio - 1:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--dtypes", type=lambda s: s.split(","), default=["float32", "bfloat16"])
    main(parser.parse_args())
