"""Adversarial training: its step, validation, evaluation and the page of a run."""
