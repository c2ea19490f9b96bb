"""Checkpoints: their files, which ones are kept, and resuming from them."""
