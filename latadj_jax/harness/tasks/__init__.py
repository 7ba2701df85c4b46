"""Tasks for lm-evaluation-harness whose data are local folders."""
