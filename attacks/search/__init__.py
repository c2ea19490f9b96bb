"""The attacks of AutoAttack; each call of `step` advances many images by one iteration."""
