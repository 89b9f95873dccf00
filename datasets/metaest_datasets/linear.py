"""Linear tasks with normal coefficients, and their exact Bayes predictions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest import TaskSet
from metaest.tasks.arguments import as_generator, as_whole
from metaest.tasks.numbers import as_number, as_rows, as_vector
from metaest.tasks.record import Record, set_fields

__all__ = ["LinearPopulation", "make_linear_tasks"]

# greatest number of tasks, rows or features
MOST = 10_000_000
# greatest standard deviation: its square is still finite
LARGEST = 1e100
# the allowed standard deviations, for messages
SD = "a standard deviation from 0 to 1e100"


@dataclass(frozen=True, eq=False)
class LinearPopulation(Record):
    r"""A population of linear tasks, :math:`y = w^\top x + \varepsilon` with :math:`w \sim N(m, C)`.

    Arrays are read-only.

    Attributes
    ----------
    mean : ndarray of shape (n_features + 1,)
        Mean m; the last entry is the intercept.
    covariance : ndarray of shape (n_features + 1, n_features + 1)
        Covariance C.
    noise : float
        Standard deviation of epsilon.
    coefficients : ndarray of shape (n_tasks, n_features + 1)
        Coefficients of each task.
    """

    mean: NDArray[Any]
    covariance: NDArray[Any]
    noise: float
    coefficients: NDArray[Any]

    def __post_init__(self) -> None:
        set_fields(self, mean=as_vector(self.mean, "mean"))
        n = len(self.mean)
        for name in ("covariance", "coefficients"):
            rows = as_rows(getattr(self, name), n, name)
            set_fields(self, **{name: rows})
        if self.covariance.shape != (n, n) or not np.allclose(self.covariance, self.covariance.T):
            raise ValueError(f"covariance must be a symmetric matrix with {n} rows, the number of entries of mean.")
        set_fields(self, noise=as_number(self.noise, "noise", least=0, wanted="a standard deviation of at least 0"))
        super().__post_init__()

    def posterior_mean(self, X: Any, y: Any) -> NDArray[Any]:
        r"""Return the mean of a task's coefficients given its support.

        .. math:: m + C A^\top (A C A^\top + \sigma^2 I)^{-1} (y - A m)

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,)

        Returns
        -------
        ndarray of shape (n_features + 1,)
        """
        A = self._with_intercept(X)
        target = as_vector(y, "y")
        if len(target) != len(A):
            raise ValueError(f"X has {len(A)} rows and y has {len(target)}; they must have the same number.")
        gain = self.covariance @ A.T
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                total = A @ gain + self.noise**2 * np.eye(len(A))
                coefficients: NDArray[Any] = self.mean + gain @ np.linalg.solve(total, target - A @ self.mean)
        except np.linalg.LinAlgError as error:
            raise ValueError("without noise, repeated rows do not determine the coefficients; remove them.") from error
        return _finite(coefficients, "X and y")

    def predict(self, X_support: Any, y_support: Any, X: Any) -> NDArray[Any]:
        """Return the predictions with the least mean squared error for rows X of a task, given its support rows.

        Parameters
        ----------
        X_support : array-like of shape (n_support, n_features)
        y_support : array-like of shape (n_support,)
        X : array-like of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        coefficients = self.posterior_mean(X_support, y_support)
        rows = self._with_intercept(X)
        with np.errstate(over="ignore", invalid="ignore"):
            return _finite(rows @ coefficients, "X")

    def _with_intercept(self, X: Any) -> NDArray[np.float64]:
        rows = as_rows(X, len(self.mean) - 1, "X")
        return np.column_stack([rows, np.ones(len(rows))])


def _finite(answer: NDArray[Any], name: str) -> NDArray[Any]:
    """Return a result; raise if it overflowed."""
    if not np.isfinite(answer).all():
        raise ValueError(f"{name}: numbers are so large that the result exceeds 1e308; choose other units.")
    return answer


def make_linear_tasks(
    n_tasks: int = 100,
    n_rows: int = 10,
    n_features: int = 1,
    *,
    between_task_sd: float = 1.0,
    noise: float = 0.3,
    random_state: int | np.random.Generator | None = None,
) -> tuple[TaskSet, LinearPopulation]:
    """Draw linear tasks whose coefficients are normally distributed around a common mean.

    Parameters
    ----------
    n_tasks, n_rows, n_features : int
    between_task_sd : float
        Standard deviation of each coefficient and of the intercept between tasks.
    noise : float
        Standard deviation of the noise.
    random_state : int, Generator or None

    Returns
    -------
    tasks : TaskSet
        Tasks with standard normal features.
    population : LinearPopulation
        The population, which computes the exact Bayes prediction from any support set.

    Examples
    --------
    >>> from metaest_datasets import make_linear_tasks
    >>> tasks, population = make_linear_tasks(5, random_state=0)
    >>> population.predict(tasks[0].X[:3], tasks[0].y[:3], tasks[0].X[3:]).shape
    (7,)
    """
    n_tasks, n_rows, n_features = (
        as_whole(value, name, most=MOST)
        for name, value in (("n_tasks", n_tasks), ("n_rows", n_rows), ("n_features", n_features))
    )
    between_task_sd = as_number(between_task_sd, "between_task_sd", least=0, most=LARGEST, wanted=SD)
    noise = as_number(noise, "noise", least=0, most=LARGEST, wanted=SD)
    rng = as_generator(random_state)
    mean = rng.standard_normal(n_features + 1)
    coefficients = mean + between_task_sd * rng.standard_normal((n_tasks, n_features + 1))
    X = rng.standard_normal((n_tasks, n_rows, n_features))
    y = np.einsum("tnd,td->tn", X, coefficients[:, :-1]) + coefficients[:, -1:]
    y += noise * rng.standard_normal(y.shape)
    tasks = TaskSet.from_arrays(X.reshape(-1, n_features), y.reshape(-1), np.repeat(np.arange(n_tasks), n_rows))
    covariance = between_task_sd**2 * np.eye(n_features + 1)
    return tasks, LinearPopulation(mean, covariance, noise, coefficients)
