"""Models of transformers, to compare with."""

import numpy as np
import tiny


def with_drawn_weights(model):
    """A torch model with random weights of a size at which everything matters."""
    import torch

    rng = np.random.default_rng(1)
    for name, parameter in model.named_parameters():
        *_, module, leaf = name.split(".")
        if leaf == "weight":
            norm = "norm" in module.lower() or module.startswith("ln_")
            word = "embed" in module or module in ("wte", "wpe")
            leaf = "scale" if norm else "embedding" if word else "kernel"
        drawn = tiny.draw(leaf, tuple(parameter.shape), rng)
        parameter.data = torch.from_numpy(drawn)
    return model
