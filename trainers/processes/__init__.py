"""The processes of one run: what they share, how they are launched and how they stop."""
