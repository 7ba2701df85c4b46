"""What score, selection and gather cost of a pruned BERT-base.

    python benchmarks/layer_parts.py --shapes 1x128,8x128,1x512 --dtype bfloat16 --speedup 3

Each part is left out in turn: the score is a constant, the selection takes the first word-vectors,
the gather is a slice of the same size. The share of a part is the time that is saved without it;
"all three" leaves out all of them at once. "merging adds" is what strategy "merge" takes more than
the whole, and in brackets its multiply-accumulates. In turns in one process, medians.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import latadj_jax
from latadj_jax.elimination.cut import Kept, Words, choose
from latadj_jax.elimination.strategies import Strategy, register
from latadj_jax.families.encoders import bert
from latadj_jax.families.encoders.bert import Bert, BertLayer
from latadj_jax.families.family import Family
from latadj_jax.families.registry import config_from_hf
from latadj_jax.timing import interleaved_ms, median

BERT_BASE = json.loads((Path(__file__).parent / "runtimes" / "bert_base.json").read_text())


def first_ones(positions_BL):
    """A ranking that asks for no score: the first word-vectors."""
    return -positions_BL.astype(jnp.float32)


NO_SCORE = register(Strategy("first ones, no score", first_ones))


def cut_without(selects: bool, gathers: bool):
    """The cut of a layer, but what is kept are the first slots, or the first rows of each array."""

    def cut_first(cut, words, offered):
        if cut is None:
            return Kept(), words
        if selects:
            keep_BK = choose(cut, words, offered)
        else:
            slots_K = jnp.arange(cut.size, dtype=jnp.int32)
            keep_BK = jnp.broadcast_to(slots_K, (words.x_BLD.shape[0], cut.size))
        kept = Kept(keep_BK) if gathers else Sliced(keep_BK)
        fields = {f.name: getattr(words, f.name) for f in dataclasses.fields(Words)}
        given = {k: v if v is None else kept.queries(v) for k, v in fields.items()}
        return kept, Words(**given)

    return cut_first


class Sliced(Kept):
    """Keeps the first rows, by slices."""

    def queries(self, x, axis=1):
        return jax.lax.slice_in_dim(x, 0, self.keep_BK.shape[1], axis=axis)


def bert_with(cut) -> Family:
    """BERT, whose layers cut in another way."""
    layer = type("Layer", (BertLayer,), {"cut_words": staticmethod(cut)})
    return dataclasses.replace(bert.FAMILY, module=type("OtherBert", (Bert,), {"layer": layer}))


PARTS = ("score", "selection", "gather")


def run_without(parts, model, params, batch, length, plan):
    """A compiled forward pass in which `parts` were left out."""
    inputs = {
        "input_ids": np.random.default_rng(0).integers(1000, 30000, (batch, length), np.int32),
        "attention_mask": np.ones((batch, length), bool),
    }
    module = model.module
    if "selection" in parts or "gather" in parts:
        cut = cut_without("selection" not in parts, "gather" not in parts)
        module = module.clone(family=bert_with(cut))
    if "score" in parts:
        plan = dataclasses.replace(plan, strategy=NO_SCORE.name)

    def logits(params, inputs):
        return module.apply({"params": params}, inputs, plan).logits

    compiled = jax.jit(logits).lower(params, inputs).compile()
    return lambda: compiled(params, inputs)


def main(args: argparse.Namespace) -> None:
    model = latadj_jax.Model(config_from_hf(BERT_BASE), "classification", dtype=args.dtype)
    model = model.replace(profile=latadj_jax.Profile.constant(model.config.num_layers))
    params = jax.tree.map(lambda x: x.astype(args.dtype), latadj_jax.init_params(model))
    cases = {"whole": (), **{part: (part,) for part in PARTS}, "all three": tuple(PARTS)}
    columns = [args.dtype, "ms", *list(cases)[1:], "merging adds"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for batch, length in args.shapes:
        plan = model.plan(latadj_jax.solve_alpha(model.profile, length, args.speedup), length)
        runs = {
            name: run_without(parts, model, params, batch, length, plan)
            for name, parts in cases.items()
        }
        merging = dataclasses.replace(plan, strategy="merge")
        runs["merging"] = run_without((), model, params, batch, length, merging)
        ms = {name: median(times) for name, times in interleaved_ms(runs, args.repeats).items()}
        shares = " | ".join(f"{1 - ms[name] / ms['whole']:.1%}" for name in list(cases)[1:])
        operations = latadj_jax.macs(model, merging) / latadj_jax.macs(model, plan) - 1
        added = f"{ms['merging'] / ms['whole'] - 1:.1%} ({operations:.1%})"
        print(f"| {batch}x{length} | {ms['whole']:.1f} | {shares} | {added} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shapes",
        type=lambda text: [tuple(map(int, shape.split("x"))) for shape in text.split(",")],
        default="1x128,8x128,1x512",
    )
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--speedup", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=25)
    main(parser.parse_args())
