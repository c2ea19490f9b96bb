"""The model under attack: what goes in, what comes out, in which mode, and whether an image fools it."""
