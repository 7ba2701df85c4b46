"""Reading and writing checkpoints and tokenizers."""
