"""The folder of a run: whose it is, its log, and finding the newest one."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from latadj_jax.atomic_file import write_whole
from latadj_jax.devices.processes import first_alone
from latadj_jax.errors import SettingsError
from latadj_jax.training.settings import Settings, from_config

SETTINGS_FILE = "settings.json"
PROFILE_FILE = "profile.json"
DATA_FILE = "data.sha256"
LOCK_FILE = ".lock"


def check_workdir(settings: Settings) -> list[str]:
    """The settings that differ from those of the run in the folder, if there is one.

    Settings of the evaluation and of the mesh may change between runs, and the folder may have been
    moved. One of other settings may be taken over only if nothing was trained in it yet.

    Raises:
      SettingsError: something was trained in the folder with other settings.
    """
    workdir = Path(settings.workdir)
    if not (workdir / SETTINGS_FILE).exists():
        return []
    changed = _differences(_as_json(load_settings(workdir)), _as_json(settings))
    changed = [k for k in changed if not k.startswith(("eval.", "mesh.")) and k != "workdir"]
    if changed and _is_trained(workdir):
        raise SettingsError(
            f"{workdir} belongs to a run with other settings ({', '.join(changed)}); "
            f"name another folder with --config.workdir, or delete it."
        )
    return changed


def _is_trained(workdir: Path) -> bool:
    found = [*workdir.glob("checkpoints/[0-9]*"), *workdir.glob("model/elimination.json")]
    return bool(found)


def check_data(workdir: Path, fingerprint: str) -> None:
    """Notes which data the run in the folder is trained on, or compares.

    Raises:
      SettingsError: something was trained in the folder on other data.
    """
    file = workdir / DATA_FILE
    if file.exists() and file.read_text().strip() != fingerprint:
        if _is_trained(workdir):
            raise SettingsError(
                f"the training data are not those that the run in {workdir} was begun with; name "
                f"another folder with --config.workdir, or delete it."
            )
        (workdir / PROFILE_FILE).unlink(missing_ok=True)  # of the other data
    write_whole(file, fingerprint + "\n")


@contextlib.contextmanager
def claimed_workdir(settings: Settings) -> Iterator[Path]:
    """Makes the run's folder, or takes it up again, and holds it: no other run may use it.

    Of several processes the first makes and holds it.

    Raises:
      SettingsError: the folder belongs to other settings, is in use, or cannot be made.
    """
    workdir = Path(settings.workdir)
    with contextlib.ExitStack() as held:
        first_alone(lambda: _claim(workdir, settings, held))
        yield workdir


def _claim(workdir: Path, settings: Settings, held: contextlib.ExitStack) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        held.enter_context(FileLock(workdir / LOCK_FILE, blocking=False))
        if check_workdir(settings):
            (workdir / PROFILE_FILE).unlink(missing_ok=True)
        for left in workdir.glob("model/.saving-*"):  # by a run that was killed while it saved
            shutil.rmtree(left, ignore_errors=True)
        write_whole(workdir / SETTINGS_FILE, json.dumps(_as_json(settings), indent=2) + "\n")
    except Timeout:
        raise SettingsError(
            f"config.workdir {workdir} is in use by another run; wait for its end, or name "
            f"another folder."
        ) from None
    except OSError as error:
        raise SettingsError(f"config.workdir {workdir} cannot be used: {error}.") from None


def load_settings(workdir: Path) -> Settings:
    """The settings of the run in `workdir`.

    Raises:
      SettingsError: it is not the folder of a run.
    """
    file = workdir / SETTINGS_FILE
    try:
        return from_config(json.loads(file.read_text()))
    except FileNotFoundError:
        raise SettingsError(
            f"{workdir} is not the folder of a run (no {SETTINGS_FILE}); "
            f"make one: latadj train --config quickstart"
        ) from None
    except SettingsError as error:
        raise SettingsError(f"{file} cannot be used: {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}.") from None


def model_of(workdir: Path) -> Path:
    """The folder of a run's model.

    Raises:
      SettingsError: it is not the folder of a run, or the run has not finished.
    """
    load_settings(workdir)
    if not (workdir / "model/elimination.json").exists():
        raise SettingsError(
            f"{workdir} has no model yet: its run has not finished; give the command that began it "
            f"again, and it goes on."
        )
    return workdir / "model"


def newest_run(root: Path = Path("runs")) -> Path:
    """The finished run in `root` whose model was written last.

    Raises:
      SettingsError: there is none.
    """
    models = list(root.glob("*/model/elimination.json"))
    if not models:
        raise SettingsError(
            f"there is no finished run in {root}/; make one with: latadj train --config quickstart"
        )
    return max(models, key=lambda file: file.stat().st_mtime).parent.parent


def _as_json(settings: Settings) -> dict:
    return json.loads(json.dumps(dataclasses.asdict(settings)))


def _differences(a: dict, b: dict, prefix: str = "") -> list[str]:
    keys = []
    for key in sorted(set(a) | set(b)):
        if isinstance(a.get(key), dict) and isinstance(b.get(key), dict):
            keys += _differences(a[key], b[key], f"{prefix}{key}.")
        elif a.get(key) != b.get(key):
            keys.append(prefix + key)
    return keys
