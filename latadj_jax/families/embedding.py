"""One vector for each text: how the hidden states that remain are pooled, and what follows.

As the modules Pooling, Dense and Normalize of sentence-transformers have it; every family's base
model can stand under it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from latadj_jax.devices.mesh import split_by_rows
from latadj_jax.elimination.plan import Plan
from latadj_jax.families.family import Head
from latadj_jax.families.heads import first_hidden, last_hidden
from latadj_jax.families.hf_config import HfConfig
from latadj_jax.families.output import Output
from latadj_jax.families.pooling import POOLING, Embedding, NormalizeStep
from latadj_jax.layers.modules import Dense

MOST_STEPS = 8  # Dense steps that a checkpoint may have
PROMPT = "prompt_mask"  # an input: 1 for tokens of a prompt
# Of torch.nn, by name, as Dense modules have them.
STEP_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "Identity": lambda x: x,
    "Tanh": jnp.tanh,
    "ReLU": nn.relu,
    "GELU": lambda x: nn.gelu(x, approximate=False),
    "SiLU": nn.silu,
    "Sigmoid": nn.sigmoid,
    "LeakyReLU": nn.leaky_relu,
}


class EmbeddingHead(nn.Module):
    """Pools what remains, in float32, and does the steps that follow."""

    cfg: HfConfig
    dtype: jnp.dtype
    remat: bool = False

    @nn.compact
    def __call__(self, base, inputs, plan: Plan, restore: bool, train: bool) -> Output:
        spec = self.cfg.embedding or Embedding()
        masses_BTM = _masses(inputs, spec)
        restore = restore or spec.reads(self.cfg.protects) == "restored"
        out = base({**inputs, "masses": masses_BTM}, plan, restore, train)
        embedding_BD = self._steps(spec, _pooled(out, masses_BTM, spec))
        return out.replace(embedding=split_by_rows(embedding_BD))

    def _steps(self, spec: Embedding, x_BD: jax.Array) -> jax.Array:
        dense = 0
        for step in spec.steps:
            if isinstance(step, NormalizeStep):
                square_B1 = jnp.square(x_BD).sum(axis=-1, keepdims=True)
                x_BD = x_BD / jnp.sqrt(jnp.maximum(square_B1, 1e-24))
            else:
                layer = Dense(step.width, step.bias, True, self.dtype, name=f"dense_{dense}")
                x_BD, dense = STEP_ACTIVATIONS[step.activation](layer(x_BD)), dense + 1
        return x_BD


def _masses(inputs, spec: Embedding) -> jax.Array:
    """Of each token of the input, float32 [B, T, 2]: whether it is pooled, and that times its place
    among the text's tokens, from 1."""
    valid_BT = inputs["attention_mask"]
    place_BT = jnp.cumsum(valid_BT, axis=1, dtype=jnp.float32)
    if not spec.include_prompt and PROMPT in inputs:
        valid_BT = valid_BT & (inputs[PROMPT] == 0)
    pooled_BT = valid_BT.astype(jnp.float32)
    return jnp.stack([pooled_BT, pooled_BT * place_BT], axis=-1)


def _pooled(out: Output, masses_BTM: jax.Array, spec: Embedding) -> jax.Array:
    masses_BLM = out.masses
    if masses_BLM is None:  # nothing was merged: each stands for itself
        rows_BL1 = jnp.maximum(out.positions, 0)[:, :, None]
        masses_BLM = jnp.take_along_axis(masses_BTM, rows_BL1, axis=1)
        masses_BLM = jnp.where((out.positions >= 0)[:, :, None], masses_BLM, 0.0)
    hidden_BLD = out.hidden.astype(jnp.float32)
    is_pooled_BL = masses_BLM[:, :, 0] > 0
    of_pooled = out.replace(hidden=hidden_BLD, positions=jnp.where(is_pooled_BL, out.positions, -1))
    ends = {"cls": first_hidden, "lasttoken": last_hidden}
    return jnp.concatenate(
        [
            ends[mode](of_pooled) if mode in ends
            else POOLING[mode](hidden_BLD, masses_BLM[:, :, int(mode == "weightedmean")])
            for mode in spec.modes
        ],
        axis=-1,
    )  # fmt: skip


def embedding_head(architecture: str) -> Head:
    """The head over the base model of that class, which reads its weights without a prefix."""
    return Head(
        architecture,
        EmbeddingHead,
        {f"dense_{n}": f"dense_{n}.linear" for n in range(MOST_STEPS)},
        may_read=lambda config: {} if config.embedding.include_prompt else {PROMPT: 2},
        prefixed=False,
        unread=("pooler.", "decoder."),
    )
