"""onnxruntime, imported here alone, so that it is imported in one way."""

import os
from types import ModuleType

from latadj_jax.extras import require

TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"  # onnxruntime 1.29 and later read it when imported


def load_onnxruntime() -> ModuleType:
    """onnxruntime without its telemetry, unless the user has set ORT_DISABLE_TELEMETRY.

    Its wheels else open a database under ~/.cache/Microsoft and upload events from it.

    Raises:
      MissingPackageError: it is not installed.
    """
    require("onnx", "onnxruntime")
    os.environ.setdefault(TELEMETRY_OFF, "1")
    import onnxruntime

    return onnxruntime
