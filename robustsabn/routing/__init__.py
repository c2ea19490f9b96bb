"""Routes: one router per model says which branch of every routed layer the next forward uses.

    with route(model, "adv"):                      # the whole batch
    with route(model, torch.tensor([0, 1, 1])):    # one route per sample
    with route(model, Split(clean=64, adv=64)):    # consecutive parts of one batch
    with route(model, Blend(clean=0.3, adv=0.7)):  # convex mix of the branches
    with route(model, Condition(y)):               # a vector per sample, for layers with condition=D
    with route(model, None):                       # shared affine only
    with route(model, {"cells.0": 3, "cells.1": 1}):   # each part of a model with several routers

Without `route` the first route is used, in train and in eval mode. A model belongs to one thread at a time.
"""

from robustsabn.routing.block import maybe_route, route
from robustsabn.routing.parts import SelectionByPart
from robustsabn.routing.recomputation import checkpoint_context, current_selection, record_selection
from robustsabn.routing.router import Router, routers_of, routes_of
from robustsabn.routing.selections import (
    Blend,
    Condition,
    Resolved,
    Selection,
    Split,
    is_blend,
    is_condition,
    is_whole_batch,
)

__all__ = [
    "Blend",
    "Condition",
    "Resolved",
    "Router",
    "Selection",
    "SelectionByPart",
    "Split",
    "checkpoint_context",
    "current_selection",
    "is_blend",
    "is_condition",
    "is_whole_batch",
    "maybe_route",
    "record_selection",
    "route",
    "routers_of",
    "routes_of",
]
