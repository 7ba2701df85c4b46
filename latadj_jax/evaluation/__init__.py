"""Evaluation: metrics, quality and speed at several alphas, reports and plots."""
