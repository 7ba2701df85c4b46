"""Latency-adjustable transformers in JAX/Flax: speed as a knob turned at run time.

Axis letters in names of arrays, e.g. `x_BLD`:
  B batch, T tokens of the input, L word-vectors in, K kept, H heads, C head width, D model width,
  F feed-forward width, V vocabulary, I queries, J keys, S tokens of a target or continuation,
  G key-value heads, E all heads side by side, R removed, N examples (of windows W).
"""

import importlib
from typing import TYPE_CHECKING

from latadj_jax import errors

__version__ = "0.1.0"

# The public names, and the module that each is imported from when it is first used.
_HOMES = {
    "Engine": "serving.engine",
    "Model": "model.model",
    "OnnxEngine": "serving.onnx_engine",
    "Output": "families.output",
    "Plan": "elimination.plan",
    "Profile": "elimination.profile",
    "apply": "model.apply",
    "calibrate": "model.calibrate",
    "continuation_logits": "generation.continuation",
    "end_tokens": "pretrained.tokenizers",
    "expected_speedup": "elimination.speedup",
    "export_onnx": "serving.export_onnx",
    "export_programs": "serving.export",
    "from_pretrained": "pretrained.load",
    "generate": "generation.generate",
    "init_params": "model.placement",
    "layer_macs": "elimination.speedup",
    "load_tokenizer": "pretrained.tokenizers",
    "macs": "elimination.speedup",
    "make_plan": "elimination.plan",
    "save_pretrained": "pretrained.save",
    "solve_alpha": "elimination.speedup",
    "stream": "generation.generate",
}

__all__ = ["errors", *_HOMES]

if TYPE_CHECKING:  # the same for type checkers, which run nothing
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
    from latadj_jax.pretrained.tokenizers import end_tokens, load_tokenizer
    from latadj_jax.serving.engine import Engine
    from latadj_jax.serving.export import export_programs
    from latadj_jax.serving.export_onnx import export_onnx
    from latadj_jax.serving.onnx_engine import OnnxEngine


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'latadj_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"latadj_jax.{_HOMES[name]}"), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
