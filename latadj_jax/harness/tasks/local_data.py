"""MMLU and BIG-Bench Hard from local folders, with their few-shot prompts.

The folders are given as --metadata '{"mmlu": "FOLDER", "bbh": "FOLDER"}'. Examples of all subjects
take turns, so that --limit leaves some of each.
"""

import csv
import itertools
import json
import re
from pathlib import Path

import datasets

MMLU_SHOTS = 5


def mmlu(mmlu: str = "", **_) -> dict[str, datasets.Dataset]:
    """MMLU's test questions, each after the five of its subject's dev file.

    Args:
      mmlu: folder with dev/SUBJECT_dev.csv and test/SUBJECT_test.csv, as published.
    """
    folder = _folder("mmlu", mmlu, "test/*_test.csv")
    subjects = []
    for file in sorted(folder.glob("test/*_test.csv")):
        subject = file.name.removesuffix("_test.csv")
        name = subject.replace("_", " ")
        intro = f"The following are multiple choice questions (with answers) about {name}.\n\n"
        examples = _rows(folder / "dev" / f"{subject}_dev.csv")[:MMLU_SHOTS]
        shots = "".join(f"{_question(row)} {row[5]}\n\n" for row in examples)
        subjects.append(
            [
                {"subject": subject, "prompt": intro + shots + _question(row), "answer": row[5]}
                for row in _rows(file)
            ]
        )
    return _in_turns(subjects)


def bbh(bbh: str = "", **_) -> dict[str, datasets.Dataset]:
    """BIG-Bench Hard, each example after its task's three, without their reasoning.

    Args:
      bbh: folder with bbh/TASK.json and cot-prompts/TASK.txt, as published, or with cot-prompts/
        beside the TASK.json themselves.
    """
    folder = _folder("bbh", bbh, "cot-prompts/*.txt")
    tasks = []
    for prompt in sorted(folder.glob("cot-prompts/*.txt")):
        file = next((f for f in (folder / "bbh" / f"{prompt.stem}.json",
                                 folder / f"{prompt.stem}.json") if f.is_file()), None)  # fmt: skip
        if file is None:
            raise ValueError(f"{folder} has no {prompt.stem}.json for {prompt.name}.")
        examples = json.loads(file.read_text("utf-8"))["examples"]
        shots = direct_prompt(prompt.read_text("utf-8"))
        tasks.append(
            [
                {"subject": file.stem, "prompt": f"{shots}Q: {example['input']}\nA:",
                 "answer": example["target"]}
                for example in examples
            ]
        )  # fmt: skip
    return _in_turns(tasks)


def direct_prompt(chain_of_thought: str) -> str:
    """The description and questions of a chain-of-thought prompt with their answers alone."""
    _, _, text = chain_of_thought.partition("-----\n")
    description, *shots = re.split(r"\n+Q: ", text.strip())
    direct = [f"{description}\n\n"]
    for shot in shots:
        question, _, reasoning = shot.partition("\nA: Let's think step by step.")
        answer = re.match(r".*[Ss]o the answer is (.*?)\.?$", reasoning.strip(), re.DOTALL)
        direct.append(f"Q: {question}\nA: {answer[1]}\n\n")
    return "".join(direct)


def _question(row: list[str]) -> str:
    question, *choices = row[:5]
    lines = [f"{letter}. {choice}" for letter, choice in zip("ABCD", choices, strict=True)]
    return "\n".join([question.strip(), *lines, "Answer:"])


def _rows(file: Path) -> list[list[str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))


def _folder(name: str, given: str, pattern: str) -> Path:
    folder = Path(given).expanduser()
    if not given or not any(folder.glob(pattern)):
        found = f"{given} has no {pattern}" if given else "none was given"
        raise ValueError(
            f"{name}_local needs the folder of its data ({found}): "
            f'pass --metadata \'{{"{name}": "FOLDER"}}\'.'
        )
    return folder


def _in_turns(subjects: list[list[dict]]) -> dict[str, datasets.Dataset]:
    rounds = itertools.zip_longest(*subjects)
    examples = [example for turn in rounds for example in turn if example is not None]
    return {"test": datasets.Dataset.from_list(examples)}
