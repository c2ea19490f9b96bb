"""Weight-sharing architecture search in the cells of NAS-Bench-201, as a task for the training loop."""
