"""Simulated transformation curves with given constants."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from metaest import TaskError, TaskSet
from metaest.tasks.arguments import as_generator, as_whole
from metaest.tasks.numbers import as_number, as_vector

__all__ = ["AvramiTasks", "make_avrami_tasks"]

# greatest number of tasks or rows
MOST = 10_000_000
# greatest standard deviation of a logarithm: with medians up to 1e100, constants remain finite
MOST_SD = 20.0
# the allowed medians, for messages
MEDIAN = "a median from 1e-100 to 1e100"


class AvramiTasks(NamedTuple):
    """Simulated curves and their constants.

    Attributes
    ----------
    tasks : TaskSet
    constants : DataFrame
        ``k`` and ``n`` of each task, one row each.
    """

    tasks: TaskSet
    constants: pd.DataFrame


def make_avrami_tasks(
    n_tasks: int = 40,
    n_rows: int = 8,
    *,
    k: float = 1.0,
    n: float = 2.0,
    sd: tuple[float, float] = (0.3, 0.2),
    correlation: float = 0.0,
    noise: float = 0.02,
    random_state: int | np.random.Generator | None = None,
) -> AvramiTasks:
    r"""Draw curves :math:`X = 1 - e^{-(k t)^n} + \varepsilon` with log-normal k and n.

    Parameters
    ----------
    n_tasks, n_rows : int
        Number of curves, and of rows in each.
    k, n : float
        Medians of the constants.
    sd : (float, float)
        Standard deviations of :math:`\ln k` and :math:`\ln n` between tasks.
    correlation : float
        Correlation of the two logarithms.
    noise : float
        Standard deviation of the normal noise of X.
    random_state : int, Generator or None

    Returns
    -------
    AvramiTasks
        One feature ``time``, uniform up to 2.5 / k; target ``X``; tasks named 0, 1, 2, ...

    Examples
    --------
    >>> from metaest_datasets import make_avrami_tasks
    >>> make_avrami_tasks(3, 5, random_state=0).tasks
    TaskSet(3 tasks, 15 rows (5 a task), feature: time, target: X)
    """
    n_tasks = as_whole(n_tasks, "n_tasks", most=MOST)
    n_rows = as_whole(n_rows, "n_rows", most=MOST)
    k, n = (as_number(v, name, least=1e-100, most=1e100, wanted=MEDIAN) for name, v in (("k", k), ("n", n)))
    spreads = as_vector(sd, "sd must be two standard deviations")
    if len(spreads) != 2 or (spreads < 0).any() or (spreads > MOST_SD).any():
        raise TaskError(f"sd must be two standard deviations from 0 to {MOST_SD:g}, got {spreads.tolist()}.")
    sd = (float(spreads[0]), float(spreads[1]))
    correlation = as_number(correlation, "correlation", least=-1, most=1, wanted="a number from -1 to 1")
    noise = as_number(noise, "noise", least=0, most=1e100, wanted="a standard deviation from 0 to 1e100")
    rng = as_generator(random_state)
    covariance = np.diag(np.square(sd)) + correlation * sd[0] * sd[1] * (1 - np.eye(2))
    drawn = np.exp(rng.multivariate_normal(np.log([k, n]), covariance, size=n_tasks))
    time = np.sort(rng.uniform(0.0, 2.5 / k, size=(n_tasks, n_rows)), axis=1)
    with np.errstate(over="ignore", under="ignore"):  # powers of large exponents overflow; X is then 1
        X = 1 - np.exp(-((drawn[:, :1] * time) ** drawn[:, 1:])) + noise * rng.standard_normal((n_tasks, n_rows))
    tasks = TaskSet.from_arrays(
        time.reshape(-1, 1),
        X.reshape(-1),
        np.repeat(np.arange(n_tasks), n_rows),
        feature_names=["time"],
        target_names=["X"],
    )
    return AvramiTasks(tasks, pd.DataFrame(drawn, columns=["k", "n"], index=pd.Index(tasks.names, name="task")))
