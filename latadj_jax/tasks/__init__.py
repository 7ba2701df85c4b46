"""Tasks: what each reads, its loss, its answer and its metrics."""
