"""How many rows a batch has, so that a row is computed alike in every batch."""

__all__ = ["ROWS", "slots_for"]

# Batches are multiples of this many rows. Matrix products of fewer rows take other kernels, which round
# differently, and a point's verdict could then depend on the batch size. On one CPU thread this suffices but
# for wide linear layers; with several, and on GPUs, larger batches may differ in the last bits as well.
ROWS = 16


def slots_for(batch_size: int, points: int) -> int:
    """Slots for at most `batch_size` of `points` points: a multiple of 16."""
    return -(-max(1, min(batch_size, points)) // ROWS) * ROWS
