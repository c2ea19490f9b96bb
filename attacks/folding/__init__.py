"""A cheaper copy of a network for the search of an attack."""
