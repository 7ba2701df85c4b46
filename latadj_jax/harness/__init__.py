"""Models of this library in EleutherAI's lm-evaluation-harness."""
