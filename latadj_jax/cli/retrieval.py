"""Measures how well a model finds documents, dense and at one alpha or several.

    latadj retrieval FOLDER --model MODEL --speedup 1.5,2,3
    latadj retrieval FOLDER --model MODEL --candidates bm25.trec --speedup 2

FOLDER is a collection in BEIR's layout: corpus.jsonl, queries.jsonl and qrels/test.tsv. An
embedding model searches all documents; documents are embedded at the alpha, queries densely. With
--candidates a reranker ranks the documents of a run file (query, Q0, document, rank, score, name).
"""

from pathlib import Path

from latadj_jax.cli import flags
from latadj_jax.data.beir import read_candidates, read_collection
from latadj_jax.evaluation.rankings import METRICS
from latadj_jax.evaluation.report import summary
from latadj_jax.evaluation.retrieval import rerank, search
from latadj_jax.evaluation.settings import EvalSettings
from latadj_jax.model.buckets import serving_buckets
from latadj_jax.pretrained.tokenizers import load_tokenizer
from latadj_jax.tasks.embedding import EMBEDDING
from latadj_jax.tasks.ranking import RANKING


def run(argv: list[str], prog: str) -> None:
    args = make_parser(prog).parse_args(argv)
    needed = RANKING.name if args.candidates else EMBEDDING.name
    prompts = (args.query_prompt, args.document_prompt)
    if args.candidates and prompts != (None, None):
        raise ValueError("prompts are for embedding models; --candidates are ranked in pairs.")
    args.task = args.task or needed
    if args.task != needed:
        raise ValueError(
            f"with --candidates a model of task {RANKING.name!r} ranks, without them one of "
            f"{EMBEDDING.name!r} searches; --task is {args.task!r}."
        )
    collection = read_collection(Path(args.folder), args.split)
    candidates = read_candidates(Path(args.candidates), collection) if args.candidates else None
    model, params = flags.load_given(args)
    source = flags.given_model(args)
    serving_buckets((args.max_length,), model.config.max_positions)  # refuses what is too long
    alphas = args.alpha
    if not alphas and not args.speedup and model.alpha is not None:
        alphas = (model.alpha,)
    asked = {
        "max_length": args.max_length, "metrics": tuple(METRICS), "alphas": alphas,
        "speedups": args.speedup, "settings": EvalSettings(batch_size=args.batch_size),
    }  # fmt: skip
    tokenizer = load_tokenizer(source)
    if candidates is None:
        results = search(
            model, params, tokenizer, collection, query_prompt=args.query_prompt,
            document_prompt=args.document_prompt, **asked,
        )  # fmt: skip
    else:
        results = rerank(model, params, tokenizer, collection, candidates, **asked)
    print(summary(f"{source} on {args.folder}", results))


def make_parser(prog: str) -> flags.Parser:
    parser = flags.Parser(prog, __doc__)
    parser.add_argument(
        "folder", metavar="FOLDER", type=flags.path, help="a collection in BEIR's layout"
    )
    parser.add_argument(
        "--split", default="test", help="take the queries of qrels/SPLIT.tsv (test)"
    )
    parser.add_argument(
        "--candidates",
        type=flags.path,
        metavar="RUN",
        help="a run file whose documents a reranker ranks",
    )
    parser.add_argument(
        "--max_length", type=flags.positive, default=256, help="cut texts to so many tokens (256)"
    )
    for text in ("query", "document"):
        parser.add_argument(
            f"--{text}_prompt", metavar="NAME",
            help=f"name of the prompt before a {text}; '' for none (the model's default one)",
        )  # fmt: skip
    flags.add_model(parser)
    flags.add_alphas(parser, "over the documents or pairs, each by its own length")
    parser.add_argument(
        "--batch_size", type=flags.positive, default=32, help="texts per batch (32)"
    )
    return parser
