"""The results of an evaluation so far, on disk, and checks of whether it may be resumed."""
