"""The kind of run that each task is."""

from latadj_jax.training.jobs import labelled, language_model, seq2seq

# Modules with `load(settings)` and `evaluator(settings, model, tokenizer)`.
KINDS = {
    "classification": labelled,
    "regression": labelled,
    "lm": language_model,
    "seq2seq": seq2seq,
}
