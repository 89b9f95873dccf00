"""Small classical tables, retyped from their publications, as task sets; data cards are next to the CSV files."""

from importlib.resources import files

import pandas as pd

from metaest import TaskSet
from metaest.tasks.arguments import as_flag

__all__ = ["load_orange", "load_reference", "load_sleepstudy", "load_theophylline"]

_DATA = files("metaest_datasets") / "data"


def _read(name: str) -> pd.DataFrame:
    with (_DATA / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"patient": str, "tree": str, "subject": str, "task": str})


def load_theophylline(*, exclude_time_zero: bool = False) -> TaskSet:
    """Return serum concentrations of theophylline in twelve patients after one oral dose.

    Parameters
    ----------
    exclude_time_zero : bool, default=False
        True leaves out the sample taken at the time of the dose: 120 rows instead of 132. The row numbers of
        :func:`load_reference` refer to this shorter table.

    Returns
    -------
    TaskSet
        Features ``time`` (h since the dose), ``dose`` (mg/kg) and ``weight`` (kg); target ``concentration`` (mg/L).
        Tasks are named "1" to "12".

    References
    ----------
    Data of R. A. Upton, in A. J. Boeckmann, L. B. Sheiner and S. L. Beal (1994), NONMEM Users Guide, Part V,
    University of California, San Francisco. Also in J. C. Pinheiro and D. M. Bates (2000), Mixed-Effects Models in S
    and S-PLUS, Springer. :doi:`10.1007/b98882`

    Examples
    --------
    >>> from metaest_datasets import load_theophylline
    >>> load_theophylline()
    TaskSet(12 tasks, 132 rows (11 a task), features: time, dose, weight, target: concentration)
    """
    table = _read("theophylline").rename(
        columns={
            "time_h": "time",
            "dose_mg_per_kg": "dose",
            "weight_kg": "weight",
            "concentration_mg_per_l": "concentration",
        }
    )
    if as_flag(exclude_time_zero, "exclude_time_zero"):
        table = table[table["time"] > 0]
    return TaskSet.from_frame(table, task="patient", features=["time", "dose", "weight"], target="concentration")


def load_orange() -> TaskSet:
    """Return trunk circumferences of five orange trees over four years.

    Returns
    -------
    TaskSet
        Feature ``age`` (days since 31 December 1968), target ``circumference`` (mm). Tasks are named "1" to "5".

    References
    ----------
    N. R. Draper and H. Smith (1998), Applied Regression Analysis, 3rd edition, Wiley, exercise 24.N.
    :doi:`10.1002/9781118625590`

    Examples
    --------
    >>> from metaest_datasets import load_orange
    >>> load_orange()
    TaskSet(5 tasks, 35 rows (7 a task), feature: age, target: circumference)
    """
    table = _read("orange").rename(columns={"age_days": "age", "circumference_mm": "circumference"})
    return TaskSet.from_frame(table, task="tree", features=["age"], target="circumference")


def load_sleepstudy() -> TaskSet:
    """Return mean reaction times of eighteen subjects over ten days of restricted sleep.

    Returns
    -------
    TaskSet
        Feature ``days`` (of sleep deprivation, 0 to 9), target ``reaction`` (ms). Tasks are named "308" to "372".

    References
    ----------
    G. Belenky and others (2003), Patterns of performance degradation and restoration during sleep restriction and
    subsequent recovery: a sleep dose-response study, Journal of Sleep Research 12, 1-12.
    :doi:`10.1046/j.1365-2869.2003.00337.x`

    Examples
    --------
    >>> from metaest_datasets import load_sleepstudy
    >>> load_sleepstudy()
    TaskSet(18 tasks, 180 rows (10 a task), feature: days, target: reaction)
    """
    table = _read("sleepstudy").rename(columns={"reaction_ms": "reaction"})
    return TaskSet.from_frame(table, task="subject", features=["days"], target="reaction")


def load_reference(name: str) -> pd.DataFrame:
    """Return leave-one-task-out results of mixed-effects models on one of the tables, with their support sets.

    For each task the population was fitted to all the others by R's nlme 3.1-162 (lme4 1.1-31 for the sleep study), the
    random effects were estimated from the task's k support rows, and the mean squared error was computed on its other
    rows.

    Parameters
    ----------
    name : {"theophylline", "orange", "sleepstudy"}
        Name of the table; row numbers for theophylline are those of ``load_theophylline(exclude_time_zero=True)``.

    Returns
    -------
    DataFrame
        One row for each support set: ``task``, ``k`` (support rows), ``scheme`` ("random", or "first" k days), ``rep``,
        ``support`` (tuple of row numbers within the task), and mean squared errors in the squared units of the
        target: ``nlme_mse``, ``pooled_mse`` (the fixed effects alone), ``cold_mse`` (least squares on the support
        alone; missing where it cannot be computed), or ``lme4_mse``.

    Raises
    ------
    ValueError
        When there is no reference of that name.

    Examples
    --------
    >>> from metaest_datasets import load_reference
    >>> reference = load_reference("theophylline")
    >>> reference[["task", "k", "rep", "support", "nlme_mse"]].iloc[7]
    task               1
    k                  2
    rep                2
    support       (0, 4)
    nlme_mse    3.687902
    Name: 7, dtype: object
    """
    if not isinstance(name, str) or name not in ("theophylline", "orange", "sleepstudy"):
        raise ValueError(f"name: there are references for 'theophylline', 'orange' and 'sleepstudy', not for {name!r}.")
    table = _read(f"{name}_reference")
    table["support"] = [tuple(int(row) for row in str(rows).split()) for rows in table["support"].fillna("")]
    return table
