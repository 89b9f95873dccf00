"""Study the accuracy of adapting to few measurements: polymer curves and steels are left out in turn."""

from metaest_domains.kinetics.study.evaluation import Prediction, compare, draw_supports, evaluate, table_of
from metaest_domains.kinetics.study.polymer import load_curves, study_polymer
from metaest_domains.kinetics.study.steel import study_steel

__all__ = [
    "Prediction",
    "compare",
    "draw_supports",
    "evaluate",
    "load_curves",
    "study_polymer",
    "study_steel",
    "table_of",
]
