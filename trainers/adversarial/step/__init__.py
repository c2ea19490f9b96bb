"""One step of adversarial training: what a method works with."""
