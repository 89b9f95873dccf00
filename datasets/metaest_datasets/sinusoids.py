"""Sinusoids of random amplitude and phase: the standard regression problem of the meta-learning literature."""

import numpy as np

from metaest import TaskSet

__all__ = ["make_sinusoids"]


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
        Number of tasks, and of rows of each.
    amplitude, phase : (low, high)
        A and b are uniform in these ranges.
    frequency : float or (low, high)
        Omega, fixed or uniform in a range.
    x_range : (low, high)
        x is uniform in this range.
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
    rng = np.random.default_rng(random_state)
    omega = frequency if isinstance(frequency, tuple) else (frequency, frequency)
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
