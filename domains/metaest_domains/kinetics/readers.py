"""A user's own curves as tasks: one long table, or one file a curve."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from metaest import TaskSet
from metaest.exceptions import TaskError
from metaest.tasks.columns import Columns, as_numbers, refuse_units, require_frame

__all__ = ["CURVE_COLUMNS", "read_curve_files", "read_curves"]

CURVE_COLUMNS = Columns(
    "read_curves",
    arguments={
        "curve": "name of the curve",
        "inputs": "columns of X: time, temperature, composition",
        "target": "what was measured",
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
    """Read curves from one long table: a data frame or a CSV file with one row a measurement.

    Parameters
    ----------
    table : DataFrame, str or Path
    curve : str, default="curve"
        The column that names the curve.
    inputs : sequence of str, default=("time",)
        Columns of X, covariates included.
    target : str, default="fraction"
    **options
        For ``pandas.read_csv``: ``sep=";"`` and ``decimal=","`` read what a spreadsheet with decimal commas writes.

    Returns
    -------
    TaskSet

    Raises
    ------
    TaskError
        When a column is missing or holds text, dates or time differences, the first row looks like a row of units, or
        rows have more fields than the header; the message says which.

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
    if isinstance(inputs, str):
        raise TypeError(f"inputs must be a list of columns, got the string {inputs!r}; write [{inputs!r}].")
    if isinstance(table, pd.DataFrame) and options:
        raise TypeError(
            f"read_curves: {', '.join(options)} would be an option of pd.read_csv, and a data frame was given."
        )
    frame = table if isinstance(table, pd.DataFrame) else _read(table, options)
    require_frame(frame, {"curve": curve, "inputs": list(inputs), "target": target})
    refuse_units(frame, [*inputs, target])
    for name in (*inputs, target):
        if not pd.api.types.is_numeric_dtype(frame[name]):
            frame = frame.assign(**{name: as_numbers(frame[name])})
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
    """Read one CSV file a curve.

    Parameters
    ----------
    files : sequence of paths, or dict of curve names to paths
        Without names, a curve is called by its file's name without the ending.
    conditions : DataFrame, optional
        One row a curve, with the curve's name for index; its columns (temperature, composition) become columns of X
        that are constant within the curve.
    inputs, target, **options
        As :func:`read_curves` takes them.

    Returns
    -------
    TaskSet

    Raises
    ------
    TaskError
        When a column is missing, or a curve has no row in `conditions`.
    """
    if isinstance(files, (str, Path)):
        raise TypeError(f"files must be a list of paths, got the single path {str(files)!r}; write [{str(files)!r}].")
    if isinstance(files, Mapping):
        named = dict(files)
    else:
        named = {Path(path).stem: path for path in files}
        if len(named) < len(files):
            raise TaskError("several files have one name; give curves names of their own: {'A': path, 'B': path}.")
    if isinstance(inputs, str):
        raise TypeError(f"inputs must be a list of columns, got the string {inputs!r}; write [{inputs!r}].")
    if conditions is not None:
        conditions = conditions.set_axis(conditions.index.map(str))
        if conditions.index.has_duplicates:
            double = conditions.index[conditions.index.duplicated()][0]
            raise TaskError(f"conditions hold curve {double!r} twice.")
    frames = []
    for name, path in named.items():
        frame = _read(path, options)
        added = ["curve", *([] if conditions is None else map(str, conditions.columns))]
        twice = [column for column in added if column in frame.columns]
        if twice:
            where = "is made from the names of files" if twice[0] == "curve" else "is in conditions as well"
            raise TaskError(f"{path}: column {twice[0]!r} {where}; drop or rename one of the two.")
        frame = frame.assign(curve=name)
        if conditions is not None:
            if str(name) not in conditions.index:
                raise TaskError(f"curve {name!r} has no row in conditions.")
            frame = frame.assign(**{str(column): value for column, value in conditions.loc[str(name)].items()})
        frames.append(frame)
    if not frames:
        raise TaskError("there is no file to read.")
    extra = [] if conditions is None else [str(column) for column in conditions.columns]
    return read_curves(pd.concat(frames, ignore_index=True), inputs=[*inputs, *extra], target=target)


def _read(path: Any, options: Mapping[str, Any]) -> pd.DataFrame:
    """Read a CSV file; a row with more fields than the header is an error, not an index."""
    for name in ("index_col", "usecols"):
        if name in options:
            raise TypeError(f"{name} would hide rows that do not fit their header; curve, inputs and target choose.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Length of header", pd.errors.ParserWarning)
            frame: pd.DataFrame = pd.read_csv(path, index_col=False, **options)
            return frame
    except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
        raise TaskError(
            f"{path}: its rows have more fields than its header ({error}); sep= and decimal= may help: "
            "sep=';', decimal=',' reads what a spreadsheet with decimal commas writes."
        ) from error
