"""Pages of a run, of a comparison and of a sweep, and the tables beside them."""
