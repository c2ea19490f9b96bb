"""Clean and robust accuracy: while training, at its end, and afterwards."""
