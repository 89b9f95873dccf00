"""Meta-learn from many small related data sets, and adapt to the next one from a handful of observations."""

from metaest.estimators import (
    AdaptedEquation,
    AdaptedEquations,
    AdaptedRegressor,
    Derived,
    EquationRegressor,
    FewShotRegressor,
    MAMLRegressor,
    Parameter,
    adapt,
)
from metaest.exceptions import (
    DivergenceError,
    IdentifiabilityWarning,
    OvershootWarning,
    TaskError,
    UngroupedWarning,
    UnlikelyTaskWarning,
)
from metaest.tasks import Task, TaskSet

__version__ = "0.1.0.dev0"

__all__ = [
    "AdaptedEquation",
    "AdaptedEquations",
    "AdaptedRegressor",
    "Derived",
    "DivergenceError",
    "EquationRegressor",
    "FewShotRegressor",
    "IdentifiabilityWarning",
    "MAMLRegressor",
    "OvershootWarning",
    "Parameter",
    "Task",
    "TaskError",
    "TaskSet",
    "UngroupedWarning",
    "UnlikelyTaskWarning",
    "adapt",
]
