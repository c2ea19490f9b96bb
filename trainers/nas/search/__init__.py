"""How searches choose: the operations and routes of a forward, and the gradient of the architecture."""
