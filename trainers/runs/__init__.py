"""Run folders: their contents, the log of a run, and comparisons of runs."""
