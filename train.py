"""Fine-tunes a model with elimination on, evaluates it and writes a report.

    python train.py --config configs/quickstart.py
    python train.py --config configs/bert_sst2.py --config.data.path=$DATA/glue/sst2
    python train.py --config configs/quickstart.py --config.mesh.fsdp=4 \\
        --coordinator HOST:PORT --num_processes 2 --process_id 0

It trains on all devices it finds (docs/scaling.md). Run again, the same command goes on from the
newest checkpoint. Every setting of latadj_jax/settings.py is a flag.
"""

import logging
import sys
import traceback

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from latadj_jax.devices.processes import OtherProcessError, is_first_process, join, leave
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.report import table
from latadj_jax.training.settings import check_key, from_config
from latadj_jax.training.sigterm import Stopped
from latadj_jax.training.train import train

_CONFIG = config_flags.DEFINE_config_file("config", None, "a file of configs/", lock_config=True)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", "", "HOST:PORT of process 0, where several processes train one model"
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "how many they are")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "which of them this is, from 0")
_CLUSTER = flags.DEFINE_bool("cluster", False, "Slurm, Open MPI, Cloud TPU or GKE says all of that")


def main(_) -> None:
    absl.logging.set_verbosity(absl.logging.WARNING)  # orbax tells much
    logging.getLogger("latadj_jax").setLevel(logging.INFO)
    try:
        settings = from_config(_CONFIG.value.to_dict())
        join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _CLUSTER.value)
        results = train(settings)
    except Stopped as stopped:
        print(f"train.py: {stopped.message}", file=sys.stderr)
        raise
    except (ValueError, FloatingPointError, OSError, OtherProcessError) as error:
        leave(f"train.py: {error}")
    except Exception:
        leave(traceback.format_exc())
    if is_first_process():
        print(f"\n{table(results)}\n\nThe whole report: {settings.workdir}/report.md")


def parse_flags(argv: list[str]) -> list[str]:
    """absl's parser, but a config or key that is not there is one sentence."""
    try:
        for argument in argv[1:]:
            if argument.startswith("-") and argument.lstrip("-").startswith("config."):
                check_key(argument.lstrip("-").split("=")[0])
        rest = app.parse_flags_with_usage(argv)
        if len(rest) > 1:
            raise SettingsError(f"{rest[1]!r} is no flag; settings are --config.KEY=VALUE")
        if _CONFIG.value is None:
            raise SettingsError("name a config, e.g. --config configs/quickstart.py")
        _CONFIG.value.to_dict()  # raises, late, what kept the file from being read
        return rest
    except (SettingsError, OSError) as error:
        sys.exit(f"train.py: {' '.join(str(error).split())}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
