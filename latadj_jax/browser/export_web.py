"""A folder that any static file server serves: a page that runs the exported graphs in a browser.

folder/index.html, page.js, answers.js  the page
folder/page.json                        what it asks and shows
folder/libraries/                       onnxruntime-web and tokenizers, as npm has them
folder/...                              what export_onnx writes
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from latadj_jax.browser.libraries import found_libraries
from latadj_jax.browser.shown import SHOWN
from latadj_jax.model.model import Model
from latadj_jax.pretrained.tokenizers import check_fast
from latadj_jax.serving.export import all_or_nothing, check_exported
from latadj_jax.serving.export_onnx import export_onnx

PAGE = ("index.html", "page.js", "answers.js")
MADE_BY_THE_PAGE = {"input_ids", "token_type_ids"}


def export_web(
    folder: str | Path,
    model: Model,
    params,
    tokenizer,
    *,
    alphas: Sequence[float | None] = (),
    buckets: Sequence[int] = (),
    quantize: str | None = None,
    title: str = "latadj",
    libraries: str | Path | None = None,
    progress: bool = False,
) -> dict:
    """Writes the folder, and returns what `export_onnx` does.

    Args:
      alphas, buckets, quantize: as of `export_onnx`.
      title: of the page.
      libraries: a node_modules folder; by default npm fetches what the page needs.

    Raises:
      ValueError: what cannot be exported, or shown; nothing is written.
    """
    folder = Path(folder)
    check_exported(folder, model)
    shown = SHOWN.get(model.record)
    if shown is None:
        tasks = ", ".join(task.name for task in SHOWN)
        raise ValueError(f"the page shows {tasks}; the model is for {model.task!r}.")
    shown.check(model.config)
    check_fast(tokenizer, "the page")
    if more := {*model.inputs_of(tokenizer)} - MADE_BY_THE_PAGE:
        raise ValueError(f"the model reads {', '.join(sorted(more))}, which the page cannot make.")
    with found_libraries(libraries) as files, all_or_nothing(folder):
        options = {"alphas": alphas, "buckets": buckets, "quantize": quantize}
        about = export_onnx(folder, model, params, tokenizer, **options, progress=progress)
        for name in PAGE:
            shutil.copyfile(Path(__file__).with_name(name), folder / name)
        (folder / "libraries").mkdir()
        for name, file in files.items():
            shutil.copyfile(file, folder / "libraries" / name)
        embedding = model.config.embedding
        page = {
            "title": title, "first": shown.first, "others": shown.others,
            "examples": shown.examples, "answer": shown.answer(model.config),
            "pairs": model.record.reads_pairs,
            "prompt": embedding.prompt(None) if embedding else "",
        }  # fmt: skip
        (folder / "page.json").write_text(json.dumps(page, indent=1) + "\n")
    return about
