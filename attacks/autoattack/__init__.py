"""AutoAttack: the ensemble, its schedule over processes and batches, and its verdicts."""
