"""`python -m latadj_jax.cli` is `latadj`."""

from latadj_jax.cli.main import main

main()
