"""Networks of other packages, and the checks of each: see `benchmarks/conversion_zoo.py`."""
