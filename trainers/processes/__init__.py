"""The processes of one run: what they do together, what their launcher says, how they stop."""
