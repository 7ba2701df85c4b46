"""Fine-tunes a model with elimination on, evaluates it and writes a report.

    latadj train --config quickstart
    latadj train --config bert_sst2 --config.data.path=$DATA/glue/sst2
    latadj train --config my_config.py --config.mesh.fsdp=4 \\
        --coordinator HOST:PORT --num_processes 2 --process_id 0

Training uses every device that it finds (docs/scaling.md). If a run was interrupted, the same
command continues it from the newest checkpoint.
"""

import importlib.util
import logging
import os
import sys
import traceback
from pathlib import Path

import absl.flags
import absl.logging

import latadj_jax
from latadj_jax.cli.flags import Parser
from latadj_jax.devices.processes import OtherProcessError, is_first_process, join, leave
from latadj_jax.errors import SettingsError
from latadj_jax.evaluation.report import table
from latadj_jax.extras import require
from latadj_jax.training.settings import Settings, check_key, from_config
from latadj_jax.training.sigterm import Stopped
from latadj_jax.training.train import train


def run(argv: list[str], prog: str) -> None:
    require("train", "ml_collections")
    args, overrides = make_parser(prog).parse_known_args(argv)
    if not args.config:
        raise SettingsError("name a config, e.g. --config quickstart")
    settings = read_settings(args.config, overrides)
    absl.logging.set_verbosity(absl.logging.WARNING)  # orbax tells much
    absl.logging.use_absl_handler()
    logging.getLogger("latadj_jax").setLevel(logging.INFO)
    try:
        join(args.coordinator, args.num_processes, args.process_id, args.cluster)
        results = train(settings)
    except Stopped as stopped:
        print(f"{prog}: {stopped.message}", file=sys.stderr)
        raise
    except (ValueError, FloatingPointError, OSError, OtherProcessError) as error:
        leave(f"{prog}: {error}")
    except Exception:
        leave(traceback.format_exc())
    if is_first_process():
        print(f"\n{table(results)}\n\nThe whole report: {settings.workdir}/report.md")


def read_settings(config: str, overrides: list[str]) -> Settings:
    """The settings of a config file, or of a config's name, and of flags --config.KEY=VALUE.

    Raises:
      SettingsError: a file, key or value that cannot be, or an argument that is no such flag.
    """
    from ml_collections import config_flags

    for argument in overrides:
        if argument.startswith("-") and argument.lstrip("-").startswith("config."):
            check_key(argument.lstrip("-").split("=")[0])
    file, given = config_file(config), ["", *overrides]
    spec = importlib.util.spec_from_file_location("config_file", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    values = absl.flags.FlagValues()
    changed = config_flags.DEFINE_config_dict(
        "config", module.get_config(), flag_values=values, sys_argv=given
    )
    try:
        rest = values(given)[1:]
    except absl.flags.Error as error:
        raise SettingsError(" ".join(str(error).split())) from None
    if rest:
        raise SettingsError(f"{rest[0]!r} is no flag; settings are --config.KEY=VALUE")
    return from_config(changed.value.to_dict())


def config_file(config: str) -> str:
    """The file of a config's name, e.g. "quickstart"; what names a file stays as it is.

    Raises:
      SettingsError: a name that no config has, or a file that is not there.
    """
    if "/" in config or "." in config:
        config = os.path.expanduser(config)
        if not os.path.isfile(config) or not config.endswith(".py"):
            raise SettingsError(f"there is no config file {config!r}; it ends in .py.")
        return config
    package = Path(latadj_jax.__file__).parent
    # In a wheel they lie inside of the package, in a clone beside it.
    folder = next(f for f in (package / "configs", package.parent / "configs") if f.is_dir())
    names = sorted(file.stem for file in folder.glob("*.py"))
    if config not in names:
        raise SettingsError(
            f"there is no config {config!r}; name a file, or one of: {', '.join(names)}."
        )
    return str(folder / f"{config}.py")


def make_parser(prog: str) -> Parser:
    parser = Parser(prog, __doc__)
    parser.epilog = (
        "Every setting is also a flag, --config.KEY=VALUE, e.g. --config.train.epochs=1. "
        "latadj_jax/training/settings.py lists them."
    )
    parser.add_argument("--config", help="the name of a config, e.g. quickstart, or a .py file")
    parser.add_argument(
        "--coordinator", default="", metavar="HOST:PORT",
        help="address of process 0, if several processes train one model",
    )  # fmt: skip
    parser.add_argument("--num_processes", type=int, default=0, help="number of processes")
    parser.add_argument("--process_id", type=int, default=-1, help="number of this process, from 0")
    parser.add_argument(
        "--cluster", action="store_true",
        help="take these three from Slurm, Open MPI, Cloud TPU or GKE",
    )  # fmt: skip
    return parser
