"""Run folders: what is in one, what is logged, how runs compare."""
