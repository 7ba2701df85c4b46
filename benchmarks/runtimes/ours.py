"""latadj_jax: BERT for classification, dense and with elimination; and how fast the machine is."""

import functools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import worker

import latadj_jax
from latadj_jax.families.registry import config_from_hf
from latadj_jax.timing import interleaved_ms, median

BERT_BASE = json.loads(Path(__file__).with_name("bert_base.json").read_text())


@functools.cache
def weights(dtype: str, num_layers: int):
    config = config_from_hf({**BERT_BASE, "num_hidden_layers": num_layers})
    model = latadj_jax.Model(config, "classification", dtype=dtype)
    params = latadj_jax.init_params(latadj_jax.Model(config, "classification"))
    return model, jax.tree.map(lambda x: x.astype(dtype), params)


def build(variant: dict, shape: dict):
    model, params = weights(variant["dtype"], shape["layers"])
    size = (shape["batch"], shape["length"])
    ids = np.random.default_rng(0).integers(1000, 30000, size).astype(np.int32)
    inputs = {"input_ids": ids, "attention_mask": np.ones(size, bool)}
    plan = latadj_jax.Plan(shape["length"], tuple(variant["rates"]))

    @jax.jit
    def logits(params, inputs):
        return latadj_jax.apply(model, params, inputs, plan=plan).logits

    return lambda: np.asarray(logits(params, inputs))


def machine(dtypes: list[str]) -> dict:
    """The best GFLOP/s of a layer's products, bytes of a layer, bytes read a second."""
    product = jax.jit(lambda a, b: a @ b)
    sizes = [(rows, *kernel) for rows in (1024, 2048) for kernel in ((768, 3072), (3072, 768))]
    found = {"jax": jax.__version__, "bytes_per_s": bandwidth()}
    for dtype in dtypes:
        runs = {}
        for rows, wide, narrow in sizes:
            a, b = jnp.ones((rows, wide), dtype), jnp.ones((wide, narrow), dtype)
            runs[rows, wide, narrow] = functools.partial(product, a, b)
        times = interleaved_ms(runs, 30)
        gflops = max(2e-6 * math.prod(size) / median(ms) for size, ms in times.items())
        _, params = weights(dtype, 1)
        layer_bytes = sum(x.nbytes for x in jax.tree.leaves(params["layer_0"]))
        found[dtype] = {"gflops": gflops, "layer_bytes": layer_bytes}
    return found


def bandwidth() -> float:
    """Bytes read a second, adding up 512 MB."""
    numbers = jnp.ones(2**27, jnp.float32)
    add = jax.jit(jnp.sum)
    ms = median(interleaved_ms({"sum": lambda: add(numbers)}, 15)["sum"])
    return 1e3 * numbers.nbytes / ms


if __name__ == "__main__":
    worker.serve(build, machine)
