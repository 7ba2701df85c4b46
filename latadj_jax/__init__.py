"""Latency-adjustable transformers in JAX/Flax: speed as a knob turned at run time.

Axis letters in names of arrays, e.g. `x_BLD`:
  B batch, T tokens of the input, L word-vectors in, K kept, H heads, C head width, D model width,
  F feed-forward width, V vocabulary, I queries, J keys, S tokens of a target or continuation,
  G key-value heads, E all heads side by side, R removed, N examples (of windows W).
"""

from latadj_jax.api import apply, from_pretrained
from latadj_jax.calibration import calibrate
from latadj_jax.continuation import continuation_logits
from latadj_jax.engine import Engine
from latadj_jax.exporting import export_programs
from latadj_jax.generation import generate, stream
from latadj_jax.model import Model
from latadj_jax.outputs import Output
from latadj_jax.plan import Plan, expected_speedup, layer_macs, macs, make_plan, solve_alpha
from latadj_jax.profile import Profile
from latadj_jax.saving import save_pretrained
from latadj_jax.sharding import init_params

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
