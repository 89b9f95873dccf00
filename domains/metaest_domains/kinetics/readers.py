"""Read a user's curves as tasks, from one long table or from one file for each curve."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from metaest import TaskSet
from metaest.exceptions import TaskError
from metaest.tasks.columns import Columns, as_numbers, refuse_booleans, refuse_units, require_frame
from metaest.tasks.containers import plain
from metaest_domains.kinetics.csv_files import read_csv

__all__ = ["CURVE_COLUMNS", "read_curve_files", "read_curves"]

CURVE_COLUMNS = Columns(
    "read_curves",
    arguments={
        "curve": "name of the curve",
        "inputs": "columns of X: time, temperature, composition",
        "target": "the measured quantity",
    },
)


def read_curves(
    table: pd.DataFrame | str | Path,
    *,
    curve: str = "curve",
    inputs: Sequence[str] = ("time",),
    target: str = "fraction",
    **options: Any,
) -> TaskSet:
    """Read curves from one long table: a data frame or a CSV file with one row for each measurement.

    Parameters
    ----------
    table : DataFrame, str or Path
    curve : str, default="curve"
        The column that names the curve.
    inputs : sequence of str, default=("time",)
        Columns of X, covariates included.
    target : str, default="fraction"
    **options
        Options of ``pandas.read_csv``: ``sep=";"`` and ``decimal=","`` read the file of a spreadsheet with decimal
        commas.

    Returns
    -------
    TaskSet

    Raises
    ------
    TaskError
        When a column is missing or holds text, dates or time differences, the first row looks like a row of units, or
        rows have more fields than the header; the message names the fault.

    Warns
    -----
    UserWarning
        When columns were not read.

    Examples
    --------
    >>> import pandas as pd
    >>> from metaest_domains.kinetics import read_curves
    >>> frame = pd.DataFrame({"curve": ["A", "A", "B"], "time": [1, 2, 1], "fraction": [0.1, 0.4, 0.2]})
    >>> read_curves(frame)
    TaskSet(2 tasks, 3 rows (1 to 2 a task), feature: time, target: fraction)
    """
    inputs = _names(inputs)
    table = plain(table, "read_curves")
    if isinstance(table, pd.DataFrame) and options:
        raise TypeError(f"read_curves: {', '.join(options)}: options of pd.read_csv do not apply to a data frame.")
    frame = table if isinstance(table, pd.DataFrame) else read_csv(table, options)
    where = "" if isinstance(table, pd.DataFrame) or hasattr(table, "read") else str(table)
    for argument, name in (("curve", curve), ("target", target)):
        if not isinstance(name, (str, int)):
            raise TaskError(f"{argument} must be the name of a column, got {name!r}.")
    require_frame(frame, {"curve": curve, "inputs": inputs, "target": target}, where)
    frame = _with_numbers(frame, [*inputs, target], where)
    CURVE_COLUMNS.warn_of_others(frame, {curve, *inputs, target}, "name conditions in inputs=, and drop the rest.")
    return TaskSet.from_frame(frame, task=curve, features=list(inputs), target=target)


def read_curve_files(
    files: Sequence[str | Path] | Mapping[str, str | Path],
    *,
    conditions: pd.DataFrame | None = None,
    inputs: Sequence[str] = ("time",),
    target: str = "fraction",
    **options: Any,
) -> TaskSet:
    """Read one CSV file for each curve.

    Parameters
    ----------
    files : sequence of paths, or dict of curve names to paths
        In a sequence, a curve gets the name of its file without the extension.
    conditions : DataFrame, optional
        One row for each curve, with the names of the curves as index; its columns (temperature, composition) become
        columns of X that are constant within a curve.
    inputs, target, **options
        As in :func:`read_curves`.

    Returns
    -------
    TaskSet

    Raises
    ------
    TaskError
        When a file cannot be read as a table (it is empty, has only a header, has another encoding, or is binary), a
        column is missing or holds something other than numbers, or a curve has no row in `conditions`. The message
        names the file, and the column and row where there is one.
    OSError
        When a file does not exist, is not a regular file or may not be read; the message names it.
    """
    if isinstance(files, (str, Path)):
        raise TypeError(f"files must be a list of paths, got the single path {str(files)!r}; write [{str(files)!r}].")
    if isinstance(files, Mapping):
        named = dict(files)
    else:
        if not isinstance(files, Sequence):
            raise TypeError(f"files must be a list of paths or a dict of them, got {type(files).__name__}.")
        wrong = [path for path in files if not isinstance(path, (str, Path))]
        if wrong:
            raise TypeError(f"files must be a list of paths, but {wrong[0]!r} is not a path.")
        named = {Path(path).stem: path for path in files}
        if len(named) < len(files):
            raise TaskError("several files have the same name; name the curves: {'A': path, 'B': path}.")
    inputs = _names(inputs)
    if conditions is not None:
        conditions = plain(conditions, "conditions")
        if not isinstance(conditions, pd.DataFrame):
            raise TypeError(f"conditions must be a data frame, got {type(conditions).__name__}.")
        conditions = conditions.set_axis(conditions.index.map(str))
        if conditions.index.has_duplicates:
            double = conditions.index[conditions.index.duplicated()][0]
            raise TaskError(f"conditions: curve {double!r} occurs twice in the index.")
    frames = []
    for name, path in named.items():
        frame = read_csv(path, options)
        require_frame(frame, {"inputs": inputs, "target": target}, str(path))
        frame = _with_numbers(frame, [*inputs, target], str(path))
        added = ["curve", *([] if conditions is None else map(str, conditions.columns))]
        twice = [column for column in added if column in frame.columns]
        if twice:
            where = "is made from the file names" if twice[0] == "curve" else "is also in conditions"
            raise TaskError(f"{path}: column {twice[0]!r} {where}; drop or rename one of the two.")
        frame = frame.assign(curve=name)
        if conditions is not None:
            if str(name) not in conditions.index:
                raise TaskError(f"curve {name!r} has no row in conditions.")
            frame = frame.assign(**{str(column): value for column, value in conditions.loc[str(name)].items()})
        frames.append(frame)
    if not frames:
        raise TaskError("files is empty; at least one file is required.")
    extra = [] if conditions is None else [str(column) for column in conditions.columns]
    return read_curves(pd.concat(frames, ignore_index=True), inputs=[*inputs, *extra], target=target)


def _names(inputs: Sequence[str]) -> list[str]:
    if isinstance(inputs, str) or not isinstance(inputs, Sequence):
        raise TypeError(f"inputs must be a list of columns, got {inputs!r:.60}; write [{inputs!r:.60}].")
    wrong = [name for name in inputs if not isinstance(name, (str, int))]
    if wrong or not len(inputs):
        raise TaskError(f"inputs must be a list of at least one column, got {inputs!r}.")
    return list(inputs)


def _with_numbers(frame: pd.DataFrame, columns: Sequence[str], where: str) -> pd.DataFrame:
    """Return a frame with these columns as finite numbers; the message names the cell that is none."""
    begin = f"{where}: " if where else ""
    try:
        refuse_units(frame, columns)
    except TaskError as error:
        raise TaskError(f"{begin}{error}") from error
    numbers = {}
    for name in columns:
        refuse_booleans(frame[name], where or "read_curves")
        numbers[name] = as_numbers(frame[name], where)
        wrong = np.flatnonzero(~np.isfinite(numbers[name]))
        if len(wrong):
            kind = "missing" if np.isnan(numbers[name][wrong[0]]) else "infinite"
            row = frame.index[wrong[0]]
            raise TaskError(f"{begin}column {name!r} is {kind} in row {row}; correct or drop the row.")
    return frame.assign(**numbers)
