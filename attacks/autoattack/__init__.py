"""AutoAttack: which attacks, on which images, with what verdict."""
