"""Causal decoders: a file for each family."""
