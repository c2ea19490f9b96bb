"""Number of rows in a batch, chosen so that a row gets the same result in every batch."""

__all__ = ["ROWS", "slots_for"]

# Batches hold a multiple of this many rows. Matrix products of fewer rows use other kernels, which round
# differently, and a verdict could then depend on the batch size. On one CPU thread this is enough, except for
# wide linear layers; on several threads and on GPUs, larger batches may still differ in the last bits.
ROWS = 16


def slots_for(batch_size: int, points: int) -> int:
    """Rows for at most `batch_size` of `points` points, rounded up to a multiple of 16."""
    return -(-max(1, min(batch_size, points)) // ROWS) * ROWS
