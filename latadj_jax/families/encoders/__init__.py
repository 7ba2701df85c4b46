"""Encoders: a file for each family; a config or layers of their own beside it."""
