"""The model under attack: checks of inputs, meaning of outputs, modes, and verdicts on adversarial images."""
