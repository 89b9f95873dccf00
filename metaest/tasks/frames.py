"""Read tasks from one tidy data frame: the columns of features, targets, tasks and weights."""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from metaest.exceptions import TaskError
from metaest.tasks.columns import Columns, name_list, refuse_codes, refuse_units, require_frame
from metaest.tasks.level_labels import coded
from metaest.tasks.reading import rows_of

__all__ = ["FRAME_COLUMNS", "TaskColumns", "read_columns"]

_NO_OBSERVATION = (
    "such a row holds no observation; drop it, or read dose records by metaest_domains.physiology.read_patients"
)
_DOSE = (
    "such a row gives a dose; drop it, or read dose records by metaest_domains.physiology.read_patients; where the "
    "dose is a feature, name the column in features"
)
_CENSORED = (
    "the target is beyond a limit; metaest.tasks.with_limits makes columns of limits of it, for limit= and "
    "upper_limit= of EquationRegressor"
)
FRAME_COLUMNS = Columns(
    "TaskSet.from_frame",
    arguments={
        "task": "name of the task",
        "features": "columns of X",
        "target": "columns of y",
        "sample_weight": "weights of the rows",
        "levels": "units within a task",
    },
    reserved={
        "evid": _NO_OBSERVATION,
        "mdv": _NO_OBSERVATION,
        "amt": _DOSE,
        **dict.fromkeys(("cens", "blq", "bql", "bloq"), _CENSORED),
    },
)


class TaskColumns(NamedTuple):
    """Columns of a frame by their role.

    Attributes
    ----------
    X : DataFrame
    y : Series or DataFrame
    groups : Series
    sample_weight : Series or None
    level_labels : dict of str to tuple
        Of columns of levels whose labels became numbers: what these stand for.
    """

    X: pd.DataFrame
    y: Any
    groups: Any
    sample_weight: Any
    level_labels: dict[str, tuple[Hashable, ...]]


def read_columns(
    frame: Any,
    task: str,
    features: Sequence[str] | None,
    target: str | Sequence[str],
    sample_weight: str | None,
    levels: Sequence[str] = (),
) -> TaskColumns:
    """Return the columns that :meth:`metaest.TaskSet.from_frame` reads, or raise a TaskError where one cannot be read.

    Parameters
    ----------
    frame, task, features, target, sample_weight, levels
        As that method takes them.
    """
    targets = [target] if isinstance(target, str) else name_list(target, "target")
    features = named = None if features is None else name_list(features, "features")
    levels = name_list(levels, "levels")
    frame = rows_of(frame, "TaskSet.from_frame", "frame")
    require_frame(frame, {"task": task, "target": targets, "sample_weight": sample_weight})
    if task is None:
        raise TaskError("task must name one column, got None.")
    for argument, value in (("task", task), ("sample_weight", sample_weight)):
        if isinstance(value, list):  # a tuple may name a column of several levels
            raise TaskError(f"{argument} must name one column, got {value!r}.")
    if features is None:
        features = [name for name in frame.columns if name not in (task, sample_weight, *targets)]
    features = [*features, *(name for name in levels if name not in features)]
    twice = [name for name in (task, sample_weight, *targets) if name in levels]
    if twice:
        raise TaskError(f"column {twice[0]!r} is named by levels and by another argument as well; give it one role.")
    twice = [name for name in targets if name in features or name in (task, sample_weight)]
    if twice:
        raise TaskError(f"column {twice[0]!r} is named by target and by another argument as well; give it one role.")
    require_frame(frame, {"features": list(features)})
    refuse_units(frame, [*(name for name in features if name not in levels), *targets])
    FRAME_COLUMNS.refuse_flags(frame, [task, sample_weight, *targets, *levels, *([] if named is None else features)])
    refuse_codes(frame, targets)
    y = frame[target] if isinstance(target, str) else frame[targets]
    weight = None if sample_weight is None else frame[sample_weight]
    X, labels = coded(frame[list(features)], levels, "TaskSet.from_frame")
    return TaskColumns(X, y, frame[task], weight, labels)
