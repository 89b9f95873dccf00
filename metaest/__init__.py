"""Meta-learn from many small related data sets, and adapt to the next one from a handful of observations."""

from metaest import scorers
from metaest.estimators import (
    AdaptedClassifier,
    AdaptedEquation,
    AdaptedEquations,
    AdaptedPolicy,
    AdaptedRegressor,
    AdaptedRegressors,
    ConformalInterval,
    Derived,
    EquationRegressor,
    FewShotClassifier,
    FewShotRegressor,
    Guard,
    MAMLClassifier,
    MAMLPolicy,
    MAMLRegressor,
    Parameter,
    Quantity,
    adapt,
)
from metaest.exceptions import (
    CoverageWarning,
    DivergenceError,
    IdentifiabilityWarning,
    OvershootWarning,
    TaskError,
    UngroupedWarning,
    UnlikelyTaskWarning,
)
from metaest.tasks import Task, TaskSet, make_episodes

__version__ = "0.1.0.dev0"

__all__ = [
    "AdaptedClassifier",
    "AdaptedEquation",
    "AdaptedEquations",
    "AdaptedPolicy",
    "AdaptedRegressor",
    "AdaptedRegressors",
    "ConformalInterval",
    "CoverageWarning",
    "Derived",
    "DivergenceError",
    "EquationRegressor",
    "FewShotClassifier",
    "FewShotRegressor",
    "Guard",
    "IdentifiabilityWarning",
    "MAMLClassifier",
    "MAMLPolicy",
    "MAMLRegressor",
    "OvershootWarning",
    "Parameter",
    "Quantity",
    "Task",
    "TaskError",
    "TaskSet",
    "UngroupedWarning",
    "UnlikelyTaskWarning",
    "adapt",
    "make_episodes",
    "scorers",
]
