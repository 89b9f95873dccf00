"""The final estimates of a NONMEM run, from its .ext file."""

import re
from os import PathLike

import numpy as np

from metaest.population.estimates import Estimates
from metaest.population.numbers import as_path
from metaest.population.readers.nonmem_tables import NonmemTable, read_table

__all__ = ["read_nonmem_ext"]

# what NONMEM writes in place of the number of an iteration
FINAL = -1000000000
ERRORS = -1000000001
FIXED = -1000000006
ENDED = -1000000007
# what stands for a standard error that was not estimated
NO_ERROR = 1e10
_LABEL = re.compile(r"THETA[0-9]+|(?:OMEGA|SIGMA)\(([0-9]+),([0-9]+)\)")


def read_nonmem_ext(path: str | PathLike[str], *, table: int | None = None, unconverged: bool = False) -> Estimates:
    """Read the final estimates of a NONMEM run.

    The file has numbers by label: thetas, and the *variances* ``OMEGA(i,i)`` and ``SIGMA(i,i)``. Which theta is which
    constant, whether it is a logarithm, how etas enter, and what the error model is are in the control stream, which is
    not read: name them to :meth:`Estimates.to_population`.

    Parameters
    ----------
    path : str or path
        Such as ``"run1.ext"``.
    table : int, optional
        Number of the table, that of the $ESTIMATION step; required where there are several.
    unconverged : bool, default=False
        Whether to read estimates of a search that did not end as it should.

    Returns
    -------
    Estimates
        Labels are those of the file, such as "THETA1" and "SIGMA(1,1)"; those of the variation between tasks are
        "OMEGA(1,1)" and so on, for each variance above 0.

    Raises
    ------
    ValueError
        When there are no final estimates, several tables and none chosen, an estimate is not a number, or the
        termination status is not 0; the message names file and label.
    OSError
        When the file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from metaest import Parameter
    >>> from metaest.population import NoiseModel, read_nonmem_ext
    >>> text = '''TABLE NO.     1: First Order Conditional Estimation: Goal Function=MINIMUM VALUE: Problem=1
    ...  ITERATION    THETA1       THETA2       SIGMA(1,1)   OMEGA(1,1)   OMEGA(2,1)   OMEGA(2,2)   OBJ
    ...   -1000000000  4.00000E+00  7.00000E+01  2.50000E-02  9.00000E-02  1.00000E-02  4.00000E-02    612.5
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "run1.ext"
    ...     _ = file.write_text(text)
    ...     run = read_nonmem_ext(file)
    >>> run["THETA1"], run.deviations
    (4.0, ('OMEGA(1,1)', 'OMEGA(2,2)'))
    >>> drug = run.to_population(
    ...     {"clearance": "THETA1", "volume": "THETA2"},
    ...     {"clearance": Parameter(1.0, lower=0, unit="L/h"), "volume": Parameter(1.0, lower=0, unit="L")},
    ...     deviations={"clearance": "OMEGA(1,1)", "volume": "OMEGA(2,2)"},
    ...     noise=NoiseModel("proportional", cv=run["SIGMA(1,1)"] ** 0.5),
    ... )
    >>> drug.constants["volume"].initial, drug.covariance().round(4).tolist()
    (70.0, [[0.09, 0.01], [0.01, 0.04]])
    """
    if not isinstance(unconverged, bool):
        raise TypeError(f"read_nonmem_ext: unconverged must be True or False, got {unconverged!r}.")
    content = read_table(path, "ITERATION", table)
    labels = content.labels[1:-1]
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"the file {path}: {label!r} is no label of an .ext file, such as THETA1 or OMEGA(2,1).")
    if len(set(labels)) < len(labels):
        raise ValueError(f"the file {path}: a label comes twice in table {content.number}.")
    final = _row(content, FINAL)
    if final is None:
        raise ValueError(
            f"the file {path}: table {content.number} has no final estimates (iteration {FINAL}); the run has not "
            "ended."
        )
    for label, value in final.items():
        if not np.isfinite(value):
            raise ValueError(f"the file {path}: the final estimate of {label} is {value}.")
    ended = _row(content, ENDED)
    status = 0.0 if ended is None or not labels else ended[labels[0]]
    if status != 0 and not unconverged:
        raise ValueError(
            f"the file {path}: the search of table {content.number} did not end as it should (termination status "
            f"{status:g}); mend the run, or pass unconverged=True to read its last estimates."
        )
    errors, fixed = _row(content, ERRORS) or {}, _row(content, FIXED) or {}
    varying = [label for label in labels if _is_variance(label) and final[label] != 0]
    source = f"NONMEM, {content.method}, {as_path(path).name}"
    if status != 0:
        source += f", which did not converge (status {status:g})"
    return Estimates(
        values={label: final[label] for label in labels},
        standard_errors={
            label: error
            for label, error in errors.items()
            if label in labels and 0 < error < NO_ERROR and not fixed.get(label, 0)
        },
        deviations=tuple(varying),
        covariance=_covariance(varying, final),
        source=source,
    )


def _row(content: NonmemTable, iteration: int) -> dict[str, float] | None:
    """Return the row of a special iteration by label, or None; the last one, as NONMEM repeats some."""
    places = np.flatnonzero(content.rows[:, 0] == iteration)
    if not len(places):
        return None
    return dict(zip(content.labels[1:], content.rows[places[-1], 1:].tolist(), strict=True))


def _is_variance(label: str) -> bool:
    match = _LABEL.fullmatch(label)
    return bool(match and label.startswith("OMEGA") and match[1] == match[2])


def _covariance(varying: list[str], final: dict[str, float]) -> tuple[tuple[float, ...], ...]:
    """Return the covariance of etas, given the labels of their variances."""
    numbers = [re.findall(r"[0-9]+", label)[0] for label in varying]
    matrix = [[0.0] * len(numbers) for _ in numbers]
    for i, one in enumerate(numbers):
        for j, other in enumerate(numbers):
            first, second = (one, other) if int(one) >= int(other) else (other, one)
            matrix[i][j] = final.get(f"OMEGA({first},{second})", 0.0)
    return tuple(map(tuple, matrix))
