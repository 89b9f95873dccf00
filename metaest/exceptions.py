"""The errors and warnings metaest raises beyond Python's and scikit-learn's own."""

__all__ = [
    "CoverageWarning",
    "DivergenceError",
    "IdentifiabilityWarning",
    "OvershootWarning",
    "TaskError",
    "UngroupedWarning",
    "UnlikelyTaskWarning",
]


class TaskError(ValueError):
    """A task cannot be used; the message names the task, the column and what was wanted."""


class DivergenceError(ArithmeticError):
    """A meta-loss, a meta-gradient or an adaptation became NaN or infinite; nothing fitted was changed."""


class OvershootWarning(UserWarning):
    """The inner rate was too large for a task; it was lowered for this task until its support loss no longer rose."""


class UngroupedWarning(UserWarning):
    """Flat data came without ``groups``, so all its rows were taken as one single task."""


class IdentifiabilityWarning(UserWarning):
    """The rows of a task say less about a constant than the population does; its value is mostly the population's."""


class UnlikelyTaskWarning(UserWarning):
    """The rows of a task are improbable under the population: unlike the tasks of the fit, or in other units."""


class CoverageWarning(UserWarning):
    """An interval cannot promise its level: too few calibration tasks, or adapted on other numbers of rows."""
