"""Fine-tunes a model with elimination on, evaluates it and writes a report: `latadj train`.

    python train.py --config configs/quickstart.py
    python train.py --config configs/bert_sst2.py --config.data.path=$DATA/glue/sst2
    python train.py --config configs/quickstart.py --config.mesh.fsdp=4 \\
        --coordinator HOST:PORT --num_processes 2 --process_id 0
"""

import sys

from latadj_jax.cli.main import call

if __name__ == "__main__":
    call("train", sys.argv[1:], "train.py")
