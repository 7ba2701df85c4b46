"""The harness's own command, which knows this library's models and the tasks of harness/tasks/.

python -m latadj_jax.harness --model latadj_jax --model_args path=MODEL,alpha=0.9 --tasks mmlu
"""

import sys
from pathlib import Path

import latadj_jax.harness.language_model  # noqa: F401  (registers the model's name)


def main() -> None:
    from lm_eval.__main__ import cli_evaluate

    given = {text.split("=")[0] for text in sys.argv}
    if given & {"--tasks", "-t"} and "--include_path" not in given:
        sys.argv += ["--include_path", str(Path(__file__).parent / "tasks")]
    try:
        cli_evaluate()
    except (ValueError, OSError) as error:
        sys.exit(f"latadj_jax.harness: {error}")


if __name__ == "__main__":
    main()
