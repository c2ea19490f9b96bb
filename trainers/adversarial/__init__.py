"""Adversarial training: one step of it, validation, evaluation, the page of a run."""
