"""SQuAD's JSON: articles with paragraphs with questions, as one record for each question.

    {"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [
        {"id": ..., "question": ..., "answers": [{"text": ..., "answer_start": ...}]}]}]}]}

Version 2 has questions without an answer, "is_impossible".

Source: Rajpurkar et al., arXiv 1606.05250 and 1806.03822.
"""

import json
from collections.abc import Iterator

from latadj_jax.errors import DataError


def squad_articles(text: str) -> list | None:
    """The articles of a file in this layout; None of any other text."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    articles = whole.get("data")
    has_paragraphs = isinstance(articles, list) and all(
        isinstance(article, dict) and "paragraphs" in article for article in articles
    )
    return articles if has_paragraphs else None


def squad_records(name: str, articles: list) -> Iterator[tuple[str, dict]]:
    """(id, record) of each question: its id, title, question, context and, if any, answers.

    Raises:
      DataError: a part that is missing.
    """
    for article in articles:
        title = article.get("title", "")
        for paragraph in _list(f"{name}, article {title!r}", article, "paragraphs"):
            where = f"{name}, a paragraph of article {title!r}"
            for question in _list(where, paragraph, "qas"):
                if not (isinstance(question, dict) and {"id", "question"} <= set(question)):
                    raise DataError(f"{where}: a question has no 'id' or no 'question'.")
                if "context" not in paragraph:
                    raise DataError(f"{where} has no 'context'.")
                record = {
                    "id": question["id"],
                    "title": title,
                    "question": question["question"],
                    "context": paragraph["context"],
                }
                if question.get("is_impossible"):
                    record["answers"] = []
                elif "answers" in question:  # a test set has none
                    record["answers"] = question["answers"]
                yield str(question["id"]), record


def _list(where: str, holder, key: str) -> list:
    if not isinstance(holder, dict) or not isinstance(holder.get(key), list):
        raise DataError(f"{where} has no list {key!r}.")
    return holder[key]
