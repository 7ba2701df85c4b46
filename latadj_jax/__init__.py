"""Latency-adjustable transformers in JAX/Flax: speed as a knob turned at run time.

Axis letters in names of arrays, e.g. `x_BLD`:
  B batch, T tokens of the input, L word-vectors in, K kept, H heads, C head width, D model width,
  F feed-forward width, V vocabulary, I queries, J keys, S tokens of a target or continuation,
  G key-value heads, E all heads side by side, R removed, N examples (of windows W).
"""

from latadj_jax.elimination.plan import Plan, make_plan
from latadj_jax.elimination.profile import Profile
from latadj_jax.elimination.speedup import expected_speedup, layer_macs, macs, solve_alpha
from latadj_jax.families.output import Output
from latadj_jax.generation.continuation import continuation_logits
from latadj_jax.generation.generate import generate, stream
from latadj_jax.model.apply import apply
from latadj_jax.model.calibrate import calibrate
from latadj_jax.model.model import Model
from latadj_jax.model.placement import init_params
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.save import save_pretrained
from latadj_jax.serving.engine import Engine
from latadj_jax.serving.export import export_programs

__all__ = [
    "Engine",
    "Model",
    "Output",
    "Plan",
    "Profile",
    "apply",
    "calibrate",
    "continuation_logits",
    "expected_speedup",
    "export_programs",
    "from_pretrained",
    "generate",
    "init_params",
    "layer_macs",
    "macs",
    "make_plan",
    "save_pretrained",
    "solve_alpha",
    "stream",
]
