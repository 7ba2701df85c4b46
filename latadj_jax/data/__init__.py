"""Data sets: files, tables, labelled examples, running text, and batches of token ids."""
