"""Sinusoids with random amplitude and phase, the standard regression problem of the meta-learning literature."""

import numpy as np

from metaest import TaskError, TaskSet
from metaest.tasks.arguments import as_generator, as_range, as_whole
from metaest.tasks.numbers import as_number

__all__ = ["make_sinusoids"]

# greatest number of tasks or rows
MOST = 10_000_000


def make_sinusoids(
    n_tasks: int = 100,
    n_rows: int = 20,
    *,
    amplitude: tuple[float, float] = (0.1, 5.0),
    phase: tuple[float, float] = (0.0, np.pi),
    frequency: float | tuple[float, float] = 1.0,
    x_range: tuple[float, float] = (-5.0, 5.0),
    noise: float = 0.0,
    random_state: int | np.random.Generator | None = None,
) -> TaskSet:
    r"""Draw tasks :math:`y = A \sin(\omega x + b) + \varepsilon`.

    Parameters
    ----------
    n_tasks, n_rows : int
        Number of tasks, and of rows in each.
    amplitude, phase : (low, high)
        Ranges of A and b, which are uniform.
    frequency : float or (low, high)
        Omega, fixed or uniform in a range.
    x_range : (low, high)
        Range of x, which is uniform.
    noise : float
        Standard deviation of the normal noise.
    random_state : int, Generator or None

    Returns
    -------
    TaskSet
        One feature, one target, tasks named 0, 1, 2, ...

    References
    ----------
    C. Finn, P. Abbeel, S. Levine (2017), section 5.1. :doi:`10.48550/arXiv.1703.03400`

    Examples
    --------
    >>> from metaest_datasets import make_sinusoids
    >>> make_sinusoids(3, 10, random_state=0)
    TaskSet(3 tasks, 30 rows (10 a task), feature: x, target: y)
    """
    n_tasks = as_whole(n_tasks, "n_tasks", most=MOST)
    n_rows = as_whole(n_rows, "n_rows", most=MOST)
    amplitude, phase, x_range = (
        as_range(value, name) for name, value in (("amplitude", amplitude), ("phase", phase), ("x_range", x_range))
    )
    noise = as_number(noise, "noise", least=0, most=1e100, wanted="a standard deviation from 0 to 1e100")
    rng = as_generator(random_state)
    if isinstance(frequency, (tuple, list)):
        omega = as_range(frequency, "frequency")
    else:
        omega = (as_number(frequency, "frequency, unless it is a pair (low, high)"),) * 2
    largest = max(map(abs, (*amplitude, *phase, *x_range, *omega)))
    if largest > 1e100:
        raise TaskError(f"amplitude, phase, frequency and x_range must not exceed 1e100, got {largest:g}.")
    A, b, w = (rng.uniform(*bounds, size=(n_tasks, 1)) for bounds in (amplitude, phase, omega))
    x = rng.uniform(*x_range, size=(n_tasks, n_rows))
    y = A * np.sin(w * x + b) + noise * rng.standard_normal((n_tasks, n_rows))
    return TaskSet.from_arrays(
        x.reshape(-1, 1),
        y.reshape(-1),
        np.repeat(np.arange(n_tasks), n_rows),
        feature_names=["x"],
        target_names=["y"],
    )
