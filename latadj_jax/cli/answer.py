"""Answers questions, each from the context that comes with it.

    latadj answer MODEL --speedup 2 --input questions.jsonl
    latadj answer MODEL --no_answer --input dev-v2.0.json

The input is JSON lines with "question", "context" and, optionally, "id", or a JSON file in SQuAD's
format. The output is one JSON line per question: id, answer, score (the answer's probability), and
start and end (character positions in the context). A context longer than the largest bucket is read
in overlapping windows. MODEL is a folder, a hub id, or package:NAME/path.
"""

import json
from collections.abc import Iterator, Sequence

from latadj_jax.cli import flags
from latadj_jax.cli.lines import add_flags, at_speed, lines_of
from latadj_jax.data.text_files import json_records
from latadj_jax.errors import DataError, TextError
from latadj_jax.pretrained.load import from_pretrained
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine
from latadj_jax.tasks.spans import MOST_TOKENS

BUCKETS = (96, 192, 384)  # windows are at most as long as in run_qa
AT_ONCE = 64  # questions


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    with lines_of(args.input) as lines:
        records = _records(args.input or "standard input", lines.read())
    model, params = from_pretrained(args.model, args.task, dtype=args.dtype, strict=args.strict)
    if not args.buckets:
        longest = model.config.max_positions
        args.buckets = tuple(sorted({min(bucket, longest) for bucket in BUCKETS}))
    engine = Engine(
        at_speed(args, model), params, load_tokenizer(args.model), buckets=args.buckets,
        batch_sizes=(1, 8),
    )  # fmt: skip
    engine.compile_as_needed(progress=True)
    for line in answer(engine, records, args.most_tokens, args.no_answer):
        print(json.dumps(line, ensure_ascii=False))


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    add_flags(parser)
    parser.add_argument(
        "--most_tokens", type=flags.positive, default=MOST_TOKENS, metavar="N",
        help=f"longest answer, in tokens ({MOST_TOKENS})",
    )  # fmt: skip
    parser.add_argument(
        "--no_answer",
        action="store_true",
        help='allow "" as the answer: the context does not answer the question',
    )
    return parser


def _records(name: str, text: str) -> list[tuple[int | str, dict]]:
    records = list(json_records(name, text))
    if not records:
        raise DataError(f"{name} holds no questions.")
    for row, record in records:
        for key in ("question", "context"):
            if not isinstance(record.get(key), str) or not record[key].strip():
                raise DataError(f"{name}, row {row}: {key!r} must be a text.")
    return records


def answer(
    engine: Engine, records: Sequence[tuple[int | str, dict]], most_tokens: int, no_answer: bool
) -> Iterator[dict]:
    """What is printed for each record.

    Raises:
      ValueError: a question that cannot be answered, by its row.
    """
    for start in range(0, len(records), AT_ONCE):
        rows, some = zip(*records[start : start + AT_ONCE], strict=True)
        texts = [[record[key] for record in some] for key in ("question", "context")]
        try:
            found = engine.answer(*texts, most_tokens=most_tokens, no_answer=no_answer)
        except TextError as error:
            raise ValueError(f"row {rows[error.number]} {error.what}") from None
        for record, best in zip(some, found, strict=True):
            known = {"id": record["id"]} if "id" in record else {}
            yield {**known, "answer": best.pop("answer"), **best}
