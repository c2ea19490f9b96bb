"""Runs of adversarial training: their networks and data, their pages, how they compare."""
