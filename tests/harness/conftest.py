"""Requests, and lm-evaluation-harness's own model, which this library's is compared with."""

import contextlib
import importlib
import sys
import types

import pytest


@pytest.fixture(scope="session")
def ask():
    """A function of a model, a kind of request and the arguments of several: their answers."""
    from lm_eval.api.instance import Instance

    def ask(lm, kind, *arguments):
        requests = [Instance(kind, {}, args, n) for n, args in enumerate(arguments)]
        return getattr(lm, kind)(requests, disable_tqdm=True)

    return ask


@pytest.fixture(scope="session")
def hflm():
    """A function of a folder: HFLM of it on the CPU, which reads one text at a time."""
    pytest.importorskip("torch")
    import transformers

    # The answer is remembered: what stands in for accelerate below is never taken for it.
    has_accelerate = transformers.utils.is_accelerate_available()
    with contextlib.nullcontext() if has_accelerate else _stand_in_for_accelerate():
        huggingface = importlib.import_module("lm_eval.models.huggingface")

    def load(folder, **options):
        encodes = transformers.AutoConfig.from_pretrained(folder).is_encoder_decoder
        of_kind = f"AutoModelFor{'Seq2Seq' if encodes else 'Causal'}LM"
        model = getattr(transformers, of_kind).from_pretrained(folder).eval()
        return huggingface.HFLM(model, tokenizer=str(folder), batch_size=1, **options)

    return load


@contextlib.contextmanager
def _stand_in_for_accelerate():
    """What HFLM's file imports of accelerate, and never calls with a model that is loaded."""
    module, utils = types.ModuleType("accelerate"), types.ModuleType("accelerate.utils")
    for name in ("Accelerator", "InitProcessGroupKwargs", "find_executable_batch_size"):
        setattr(module, name, None)
    utils.get_max_memory = None
    stand_ins = {"accelerate": module, "accelerate.utils": utils}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]
