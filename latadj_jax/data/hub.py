"""Data sets of the Hugging Face hub."""

from latadj_jax.data.settings import DataSettings
from latadj_jax.errors import DataError
from latadj_jax.extras import require
from latadj_jax.pretrained import sources


def load_split(data: DataSettings, split: str):
    """What errors call a split, and its `datasets.Dataset`.

    Raises:
      DataError: a data set or split that cannot be had.
    """
    require("data", "datasets")
    import datasets  # slow to import, and local data does without

    where = "/".join(filter(None, (data.hub, data.hub_config))) + f" {split}"
    try:
        return where, datasets.load_dataset(data.hub, data.hub_config or None, split=split)
    except Exception as error:  # no network, no such data set, no such split
        raise DataError(
            f"{where} could not be loaded from the Hugging Face hub "
            f"({sources.reason(error)}); for local files pass --config.data.path=FOLDER."
        ) from None
