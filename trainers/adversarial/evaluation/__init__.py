"""Clean and robust accuracy: during training, at its end, and of finished runs."""
