"""Bytes and operations of a training step for each device of a mesh, without the devices.

    pip install "jax[tpu]"
    python benchmarks/memory_on_paper.py --topology v5e:16x16 --model llama-8b --mesh 1,256,1 \\
        --batch_size 256 --length 2048
    python benchmarks/memory_on_paper.py --model bert-large --mesh 8,1,1 \\
        --batch_size 256 --length 512

Parameters and optimizer state are counted from `jax.eval_shape` and the patterns of
devices/param_specs.py; the rest is what XLA says of the step it compiled: its memory and cost
analysis. With --topology that is the TPU's own compiler, which needs no TPU, for the chips of that
topology. Without, it is the CPU's, for that many CPU devices. Barriers stay, as TPUs and GPUs keep
them, else what remat computes again would be computed early and kept. The CPU's library computes
products alone: what it fuses with them takes constants as whole arrays, which every layer of
another size has its own of. Compilers of accelerators fuse more and gather weights later, so the
temporary memory is an upper bound. bfloat16 computation, float32 parameters and Adam, remat in
every layer. Operations are two for each multiply-accumulate. """

import argparse
import json
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import latadj_jax
from latadj_jax.devices.mesh import ROWS, make_mesh
from latadj_jax.families.registry import config_from_hf
from latadj_jax.model.model import param_shapes
from latadj_jax.training.optimizer import make_optimizer
from latadj_jax.training.settings import TrainSettings
from latadj_jax.training.steps import Step, abstract_state, train_step

# Published sizes: Devlin et al., arXiv 1810.04805; Llama 3.1 8B, arXiv 2407.21783.
MODELS = {
    "bert-large": ("classification", {
        "model_type": "bert", "vocab_size": 30522, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }),
    "llama-8b": ("lm", {
        "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 14336,
        "max_position_embeddings": 8192, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
    }),
}  # fmt: skip


def size(tree) -> int:
    return sum(int(np.prod(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def size_per_device(tree) -> int:
    """Bytes that one device holds of a tree of ShapeDtypeStruct with shardings."""
    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


def chips(topology: str):
    """The devices of a TPU topology, e.g. "v5e:16x16", to compile for; None without one."""
    if not topology:
        return None
    return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices


def main(args: argparse.Namespace, sizes) -> None:
    task, hf = MODELS[args.model]
    hf = {**hf, "num_hidden_layers": args.layers or hf["num_hidden_layers"]}
    model = latadj_jax.Model(config_from_hf(hf), task, dtype="bfloat16", remat=True)
    model = model.replace(config=model.config.with_dropout(0.0))
    alpha = None
    if args.speedup > 1:
        alpha = latadj_jax.solve_alpha(model.profile, args.length, args.speedup)
    plan = model.plan(alpha, args.length)
    optimizer = make_optimizer(TrainSettings(), 1000)
    what = Step(model, optimizer, (plan,), accumulate=args.accumulate)
    mesh = make_mesh(*sizes, devices=chips(args.topology))
    params = param_shapes(model)
    with jax.set_mesh(mesh):
        placed = abstract_state(model, optimizer)
        rows = NamedSharding(mesh, P(ROWS))

        def of_rows(shape, dtype):
            return jax.ShapeDtypeStruct((args.batch_size, *shape), dtype, sharding=rows)

        batch = {
            "input_ids": of_rows((args.length,), jnp.int32),
            "attention_mask": of_rows((args.length,), bool),
            "labels": of_rows((), jnp.int32),
            "weights": of_rows((), jnp.float32),
        }
        start = time.perf_counter()
        key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
        compiled = train_step.lower(what, placed, batch, key).compile()
        seconds = time.perf_counter() - start
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    tokens = args.batch_size * args.length
    flops = cost["flops"] * args.accumulate  # XLA counts what a loop does once
    result = {
        "compiled_for": args.topology or "CPU devices", "model": args.model,
        "layers": hf["num_hidden_layers"], "mesh": sizes,
        "batch_size": args.batch_size, "length": args.length,
        "expected_speedup": round(latadj_jax.expected_speedup(plan), 2),
        "parameters": sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params)),
        "state_GB": size(placed) / 1e9,
        "state_GB_per_device": size_per_device(placed) / 1e9,
        "largest_shard_MB": max(
            int(np.prod(x.sharding.shard_shape(x.shape))) * 4 / 1e6
            for x in jax.tree.leaves(placed.params)
        ),
        "arguments_GB_per_device": memory.argument_size_in_bytes / 1e9,
        "temporary_GB_per_device": memory.temp_size_in_bytes / 1e9,
        "TFLOP_per_device": flops / 1e12,
        "GFLOP_per_token": flops * mesh.size / tokens / 1e9,
        "compile_s": round(seconds, 1),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--mesh", required=True, help="data,fsdp,tensor")
    parser.add_argument("--batch_size", type=int, required=True, help="of all devices")
    parser.add_argument("--length", type=int, required=True, help="tokens")
    parser.add_argument("--speedup", type=float, default=1.0, help="expected; 1 is dense")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--layers", type=int, help="fewer than the model has, to compile faster")
    parser.add_argument("--topology", default="", help="of TPUs, e.g. v5e:16x16; needs libtpu")
    parsed = parser.parse_args()
    sizes = tuple(int(size) for size in parsed.mesh.split(","))
    jax.config.update("jax_platforms", "cpu")
    if parsed.topology:  # there is no TPU to ask who it is
        os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    else:
        os.environ["XLA_FLAGS"] = (
            "--xla_disable_hlo_passes=cse_barrier_expander "
            "--xla_cpu_experimental_ynn_fusion_type=individual_dot"
        )
        jax.config.update("jax_num_cpu_devices", sizes[0] * sizes[1] * sizes[2])
    main(parsed, sizes)
