"""Fine-tunes a model with elimination on, evaluates it and writes a report.

    python train.py --config configs/quickstart.py
    python train.py --config configs/bert_sst2.py --config.data.path=$DATA/glue/sst2

Run again, the same command goes on from the newest checkpoint.
"""

import logging
import sys

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from latadj_jax.report import table
from latadj_jax.settings import from_config
from latadj_jax.training import train

_CONFIG = config_flags.DEFINE_config_file("config", None, "a file of configs/", lock_config=True)


def main(_) -> None:
    try:
        settings = from_config(_CONFIG.value.to_dict())
        results = train(settings)
    except (ValueError, FloatingPointError) as error:
        sys.exit(f"train.py: {error}")
    print(f"\n{table(results)}\n\nThe whole report: {settings.workdir}/report.md")


if __name__ == "__main__":
    absl.logging.set_verbosity(absl.logging.WARNING)  # orbax tells much
    logging.getLogger("latadj_jax").setLevel(logging.INFO)
    flags.mark_flag_as_required("config")
    app.run(main)
