"""What the routes of a model do: their gradients, affines and statistics; and whether gradients are masked.

    from robustsabn.analysis import route_affines, route_gradients
    route_gradients(model, x, y).show()
    route_affines(model).show()

Results are small dataclasses with `show()`, `table()`, `to_dict()` and `to_json(path)`. A measurement leaves
parameters, gradients, statistics, modes and random numbers as they are.
"""

from robustsabn.analysis.affines import Affines, LayerAffines, route_affines
from robustsabn.analysis.attacked import SweepPoint
from robustsabn.analysis.batches import RouteBatch
from robustsabn.analysis.curves import ClassAccuracy, RobustnessCurves, robustness_curves
from robustsabn.analysis.gradients import Gradients, route_gradients
from robustsabn.analysis.gram import Gram
from robustsabn.analysis.masking import GradientMasking, gradient_masking
from robustsabn.analysis.statistics import LayerStatistics, Statistics, route_statistics
from robustsabn.analysis.swap import Swap, Swaps, route_swap

__all__ = [
    "Affines",
    "ClassAccuracy",
    "GradientMasking",
    "Gradients",
    "Gram",
    "LayerAffines",
    "LayerStatistics",
    "RobustnessCurves",
    "RouteBatch",
    "Statistics",
    "Swap",
    "Swaps",
    "SweepPoint",
    "gradient_masking",
    "robustness_curves",
    "route_affines",
    "route_gradients",
    "route_statistics",
    "route_swap",
]
