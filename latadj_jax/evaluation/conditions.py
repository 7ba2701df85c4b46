"""The conditions of an evaluation, as reports state them."""

import jax

from latadj_jax.devices.mesh import num_devices
from latadj_jax.model.model import Model


def conditions(model: Model, count: str, batch_size: int) -> dict:
    """What every report says of how its numbers were made."""
    return {
        "num_layers": model.config.num_layers,
        "count": count,
        "strategy": model.strategy,
        "batch_size": batch_size,
        "device": f"{jax.devices()[0].platform}, {num_devices()} device(s)",
        "dtype": model.dtype,
        "jax": jax.__version__,
    }
