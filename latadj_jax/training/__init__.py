"""Training: settings, steps, optimizer, checkpoints and the run."""
