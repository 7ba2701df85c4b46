"""Text after a prompt: continuation, generation, sampling and beam search."""
