"""SST-2 (Socher et al. 2013): one sentence, negative or positive.

    python train.py --config configs/bert_sst2.py
    python train.py --config configs/bert_sst2.py --config.data.path=$DATA/glue/sst2
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    cfg = ConfigDict()
    cfg.workdir = "runs/bert_sst2"
    cfg.seed = 0
    cfg.model = dict(source="bert-base-uncased", task="classification")
    cfg.data = dict(
        hub="nyu-mll/glue",
        hub_config="sst2",
        text_columns=("sentence",),
        label_column="label",
        labels=("negative", "positive"),
        path="",
        max_length=64,
    )
    return cfg
