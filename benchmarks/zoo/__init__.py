"""Networks that nobody here wrote, and what is asked of each: see `benchmarks/conversion_zoo.py`."""
