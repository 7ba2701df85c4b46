"""Ranks the lines of a file by how well they answer a query.

    latadj rank MODEL --query "how are glaciers formed" --speedup 2 < documents.txt
    latadj rank MODEL --input pairs.tsv

With --query every input line is a document. The output is score, line number (from 1) and document,
separated by tabs, best first. Without --query every input line is a query and a document with a tab
between them, and the output is one score per line, in the order of the input. Documents that are
too long are cut. MODEL is a folder, a hub id, or package:NAME/path.
"""

from latadj_jax.cli import flags
from latadj_jax.cli.lines import add_flags, at_speed, lines_of, load_for, rows_of
from latadj_jax.errors import TextError
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.serving.engine import Engine
from latadj_jax.serving.ranking import CUTS, check_texts
from latadj_jax.tasks.ranking import RANKING, check_one_score, scores

AT_ONCE = 512  # pairs


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    if args.query is None and (args.top_k or args.cut):
        raise ValueError("--top_k and --cut are for the documents of one --query.")
    model, params = load_for(args, RANKING, "ranks")
    check_one_score(model.config)
    with lines_of(args.input) as read:
        lines = [line.strip() for line in read]
    numbered = [(n, line) for n, line in enumerate(lines, 1) if line]
    if args.query is not None:  # before anything is compiled
        check_texts(args.query, [document for _, document in numbered])
    engine = Engine(
        at_speed(args, model), params, load_tokenizer(args.model), buckets=args.buckets,
        truncate=True,
    )  # fmt: skip
    engine.compile_as_needed(progress=True)
    if args.query is None:
        for row in rows_of(engine, lines, AT_ONCE, _pair):
            print("" if row is None else f"{scores(model.config, row[None])[0, 0]:.4f}")
        return
    documents = [document for _, document in numbered]
    for found in engine.rank(args.query, documents, args.top_k, cut=args.cut or CUTS[0]):
        number, document = numbered[found.index]
        print(f"{found.score:.4f}\t{number}\t{document}")


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    add_flags(parser)
    parser.add_argument("--query", help="the query that the lines are ranked for")
    parser.add_argument("--top_k", type=flags.number, metavar="K", help="print only the best K")
    parser.add_argument(
        "--cut", choices=CUTS, help="which text of a pair that is too long is cut (longest_first)"
    )
    return parser


def _pair(line: str) -> tuple[str, str]:
    query, tab, document = line.partition("\t")
    if not (query.strip() and tab and document.strip()):
        raise TextError(0, "is not a query and a document with a tab between.")
    return query, document
