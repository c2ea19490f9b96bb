"""A cheaper copy of a network to search on, made only where it computes the same."""
