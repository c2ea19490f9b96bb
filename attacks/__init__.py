"""Attacks on any callable that returns logits."""
