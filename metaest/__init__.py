"""Meta-learn from many small related data sets, and adapt to the next one from a handful of observations."""

from metaest.estimators import AdaptedRegressor, FewShotRegressor, MAMLRegressor, adapt
from metaest.exceptions import DivergenceError, OvershootWarning, TaskError, UngroupedWarning
from metaest.tasks import Task, TaskSet

__version__ = "0.1.0.dev0"

__all__ = [
    "AdaptedRegressor",
    "DivergenceError",
    "FewShotRegressor",
    "MAMLRegressor",
    "OvershootWarning",
    "Task",
    "TaskError",
    "TaskSet",
    "UngroupedWarning",
    "adapt",
]
