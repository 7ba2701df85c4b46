"""Which answers a speed loses: those whose own tokens were removed, or others, too?

    python experiments/answers_lost.py runs/qa_squad --speedup 1.5,2 --examples 400

An answer is found by its first and its last token. Questions are grouped by the first layer that
removed one of the two, and each group has its F1 dense and pruned. Then the same pass with the
answer's own tokens protected, which no model could do without knowing them: what is lost even so is
lost because the other tokens are gone. Questions whose context needs several windows are left out,
as are answers of more than 10 tokens, so that all fit into what is protected.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from tqdm import tqdm

import latadj_jax
from latadj_jax.data.encoded import Encoded
from latadj_jax.evaluation.answers import f1, found_answers
from latadj_jax.families.encoder import PROTECTED
from latadj_jax.model.model import rngs_for
from latadj_jax.training.jobs.readers import reader_of
from latadj_jax.training.run_folder import load_settings, model_of

MOST = 10  # tokens of an answer
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--speedup", default="1.5,2")
    parser.add_argument("--examples", type=int, default=0, help="evaluated; 0 = all")
    args = parser.parse_args()
    settings, folder = load_settings(args.run), model_of(args.run)
    model, params = latadj_jax.from_pretrained(folder, dtype=settings.model.dtype)
    questions = Questions(settings, model, latadj_jax.load_tokenizer(str(folder)), args.examples)
    dense_N, _ = questions.answer(model, params, None)
    print(f"{len(dense_N)} questions, F1 {100 * dense_N.mean():.1f} dense")
    helped = model.replace(protected=1 + MOST)
    for speedup in map(float, args.speedup.split(",")):
        alpha = model.solve_alpha(questions.part.lengths, speedup)
        pruned_N, lived_N = questions.answer(model, params, alpha)
        helped_N, _ = questions.answer(helped, params, alpha)
        print(
            f"\n{speedup:g}x: F1 {100 * pruned_N.mean():.1f}, "
            f"with the answer's tokens protected {100 * helped_N.mean():.1f}\n\n"
            "| an end of the answer is removed by layer | questions | F1 dense | F1 pruned |\n"
            "|---|---|---|---|"
        )
        for lived in range(model.config.num_layers + 1):
            if (own_N := lived_N == lived).any():
                layer = "none" if lived == model.config.num_layers else lived + 1
                of_both = (f"{100 * x_N[own_N].mean():.1f}" for x_N in (dense_N, pruned_N))
                print(f"| {layer} | {own_N.mean():.1%} | {' | '.join(of_both)} |")


class Questions:
    """Those that one window answers; of each the tokens of its answer are marked."""

    def __init__(self, settings, model, tokenizer, number: int):
        data = dataclasses.replace(settings.data, max_eval_examples=number)
        reader = reader_of(model.record)
        (examples,) = reader.load(data, model.record, settings.seed)[1].values()
        part = reader.encode(tokenizer, examples, data, model)
        spans_W2, of_W = np.asarray(part.labels), part.windows.questions
        single_W = np.bincount(of_W)[of_W] == 1
        short_W = (spans_W2[:, 0] > 0) & (spans_W2[:, 1] - spans_W2[:, 0] < MOST)
        chosen = np.flatnonzero(single_W & short_W)
        self.buckets, self.spans_N2 = data.buckets, spans_W2[chosen]
        self.contexts = [examples.texts[of_W[w]][1] for w in chosen]
        self.wanted = [[answer.text for answer in examples.labels[of_W[w]]] for w in chosen]
        marked = [
            {**part.examples[w], PROTECTED: _marks(len(part.examples[w]["input_ids"]), *span)}
            for w, span in zip(chosen, self.spans_N2, strict=True)
        ]
        self.part = Encoded(marked, self.spans_N2)
        self.windows = part.windows._replace(
            examples=marked, offsets=[part.windows.offsets[w] for w in chosen],
            questions=np.arange(len(chosen), dtype=np.int32),
        )  # fmt: skip

    def answer(self, model, params, alpha: float | None) -> tuple[np.ndarray, np.ndarray]:
        """F1 of each question [N], and after how many layers both ends of its answer are there."""
        logits_NT2 = np.zeros((len(self.contexts), max(self.buckets), 2), np.float32)
        lived_N = np.zeros(len(self.contexts), int)
        batches = self.part.batches(self.buckets, BATCH)
        for indices, batch in tqdm(batches, unit="batch", leave=False):
            length = batch["input_ids"].shape[1]
            plan = model.plan(alpha, length)
            inputs = {name: x for name, x in batch.items() if name not in ("labels", "weights")}
            options = {"plan": plan, "rngs": rngs_for(plan), "return_scores": True}
            out = latadj_jax.apply(model, params, inputs, **options)
            logits_NT2[indices, :length] = np.asarray(out.logits, np.float32)[: len(indices)]
            for positions_BL in (*out.entered[1:], out.left):
                for row, n in enumerate(indices):
                    lived_N[n] += np.isin(self.spans_N2[n], positions_BL[row]).all()
        found = found_answers(self.contexts, self.windows, logits_NT2)
        best = (max(f1(a, w) for w in some) for a, some in zip(found, self.wanted, strict=True))
        return np.fromiter(best, float), lived_N


def _marks(length: int, first: int, last: int) -> np.ndarray:
    places = np.arange(length)
    return ((places >= first) & (places <= last)).astype(np.int32)


if __name__ == "__main__":
    main()
