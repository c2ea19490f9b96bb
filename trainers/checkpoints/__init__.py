"""Checkpoints: their files, which are kept, how a run goes on from one."""
