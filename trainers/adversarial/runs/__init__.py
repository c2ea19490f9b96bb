"""Runs of adversarial training: networks, data, pages and comparisons."""
