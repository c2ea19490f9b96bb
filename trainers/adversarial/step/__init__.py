"""One step of adversarial training, and the bench that a method uses in it."""
