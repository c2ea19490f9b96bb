"""Training loops on Accelerate."""
