"""Many tasks conditioned on their supports, a bounded number at a time: for scores, the guard and `adapt_many`."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metaest.estimators.gaussian.prior import Conditioned, Moments, TaskPrior
from metaest.estimators.guard import Answers
from metaest.exceptions import TaskError
from metaest.functional.progress import progress
from metaest.tasks import TaskSet, split_tasks

__all__ = [
    "Batch",
    "conditioned_task",
    "conditioned_tasks",
    "freedom_before",
    "freedom_of_rows",
    "guard_answers",
    "moments_before",
    "moments_of_all",
    "moments_of_rows",
    "moments_of_tasks",
    "query_predictions",
    "require_finite",
]

Array = NDArray[np.float64]
# numbers of tasks, and these tasks given rows of theirs
Batch = tuple[NDArray[np.intp], Conditioned]

# numbers in the covariances of tasks that are conditioned at a time, padding included: some 16 MB
CHUNK_VALUES = 2_000_000


def conditioned_task(prior: TaskPrior, X: Array, y: Array, where: str) -> Conditioned:
    """Return one task given rows of shape (n_rows, n_features), or raise a TaskError that begins with `where`."""
    return _conditioned(prior, X[None], y[None], np.ones((1, len(X)), dtype=bool), partial(_same, where))


def conditioned_tasks(prior: TaskPrior, tasks: TaskSet, *, verbose: bool = False) -> list[Batch]:
    """Return numbers of tasks, some at a time, and these tasks given all of their rows."""
    parts = []
    chunks = _chunks(tasks.sizes, tasks.sizes)
    for chosen in progress(chunks, verbose, "adaptations", "task", len(tasks), len):
        given = _of_rows(tasks, *_whole(tasks, chosen))
        parts.append((chosen, _conditioned(prior, *given, _named(tasks, chosen))))
    return parts


def query_predictions(
    prior: TaskPrior,
    tasks: TaskSet,
    support_size: Any,
    split: str,
    rng: np.random.Generator,
    *,
    verbose: bool = False,
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Adapt to the support of every task and predict its query; `verbose` shows a progress bar.

    Returns
    -------
    truth, prediction : ndarray of shape (n_query_rows,)
    rows : ndarray of shape (n_query_rows,)
        Their row numbers in the TaskSet.

    Raises
    ------
    TaskError
        When a prediction is not finite; the message names the task.
    """
    drawn = split_tasks(tasks, np.arange(len(tasks)), support_size, split, rng)
    n_support, n_query = drawn.support_mask.sum(axis=1), drawn.query_mask.sum(axis=1)
    predictions, numbers = [], []
    chunks = _chunks(n_support, n_support + n_query)
    for chosen in progress(chunks, verbose, "tasks scored", "task", len(tasks), len):
        place = _named(tasks, chosen)
        support, query = (slice(int(n[chosen].max())) for n in (n_support, n_query))
        given = _of_rows(tasks, drawn.support[chosen, support], drawn.support_mask[chosen, support])
        rows, mask = drawn.query[chosen, query], drawn.query_mask[chosen, query]
        mean = _at(_conditioned(prior, *given, place), _as_numbers(tasks.X[rows]), spread=False).mean
        for i in np.flatnonzero(~np.isfinite(mean).all(axis=1)):
            require_finite(mean[i], tasks.X[rows[i]], place(int(i)))
        predictions.append(mean[mask])
        numbers.append(rows[mask])
    rows = np.concatenate(numbers)
    return tasks.y[rows].astype(np.float64).reshape(-1), np.concatenate(predictions), rows


def guard_answers(prior: TaskPrior, tasks: TaskSet) -> Answers:
    """Adapt to the support of every task and predict its query, for a guard to compare with the population."""
    truth, adapted, rows = query_predictions(prior, tasks, None, "random", np.random.default_rng(0))
    with np.errstate(all="ignore"):
        population = prior.mean(_as_numbers(tasks.X[rows]))
    return Answers(truth[:, None], adapted[:, None], population[:, None], rows)


def moments_before(prior: TaskPrior, X: NDArray[Any], where: str, *, spread: bool) -> Moments:
    """Return the moments before adaptation at rows, of shape (n_rows,), or raise a TaskError."""
    with np.errstate(all="ignore"):
        moments = Moments.before(prior, _as_numbers(X), spread=spread)
    return _finite(moments, X, where)


def moments_of_rows(task: Conditioned, X: NDArray[Any], where: str, *, spread: bool) -> Moments:
    """Return the moments of one task's function at rows, of shape (n_rows,), or raise a TaskError."""
    mean, variance = _at(task, _as_numbers(X)[None], spread=spread)
    return _finite(Moments(mean[0], None if variance is None else variance[0]), X, where)


def freedom_before(prior: TaskPrior, X: NDArray[Any], *, noise: bool) -> Array:
    """Return the degrees of freedom of variances before adaptation, of shape (n_rows,)."""
    with np.errstate(all="ignore"):
        return prior.freedom(_as_numbers(X), noise=noise)


def freedom_of_rows(task: Conditioned, X: NDArray[Any], *, noise: bool) -> Array:
    """Return the degrees of freedom of the variances of one task's function, of shape (n_rows,)."""
    with np.errstate(all="ignore"):
        return np.asarray(task.freedom(_as_numbers(X)[None], noise=noise)[0])


def moments_of_all(batches: list[Batch], X: NDArray[Any], tasks: TaskSet, *, spread: bool) -> Moments:
    """Return the moments of all tasks at the same rows, of shape (n_tasks, n_rows), or raise a TaskError."""
    results = np.empty((2, len(tasks), len(X)))
    for chosen, task in batches:
        rows = np.broadcast_to(_as_numbers(X), (len(chosen), *X.shape))
        results[: 1 + spread, chosen] = _in_blocks(task, rows, tasks.sizes[chosen], spread=spread)
    bad = np.flatnonzero(~np.isfinite(results[: 1 + spread]).all(axis=(0, 2)))
    if len(bad):
        require_finite(results[: 1 + spread, bad[0]].sum(axis=0), X, _named(tasks, bad)(0))
    return Moments(results[0], results[1] if spread else None)


def moments_of_tasks(batches: list[Batch], adapted: TaskSet, tasks: TaskSet, *, spread: bool) -> Moments:
    """Return the moments of each task at rows of its own, of shape (n_rows_of_all_tasks,), or raise a TaskError.

    Parameters
    ----------
    batches : list
        As `conditioned_tasks` returns it for `adapted`.
    adapted : TaskSet
        What was adapted to.
    tasks : TaskSet
        The rows, of the same tasks.
    spread : bool
    """
    results = np.empty((2, len(tasks.X)))
    for chosen, task in batches:
        rows, mask = _whole(tasks, chosen)
        values = _in_blocks(task, _as_numbers(tasks.X[rows]), adapted.sizes[chosen], spread=spread)
        bad = np.flatnonzero(~(np.isfinite(values) | ~mask).all(axis=(0, 2)))
        if len(bad):
            i = int(bad[0])
            require_finite(values[:, i, mask[i]].sum(axis=0), tasks.X[rows[i, mask[i]]], _named(tasks, chosen)(i))
        results[: 1 + spread, rows[mask]] = values[:, mask]
    return Moments(results[0], results[1] if spread else None)


def require_finite(values: Array, X: NDArray[Any], where: str) -> None:
    """Raise a TaskError that names the first row whose answer is not finite."""
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = X[bad[0]].astype(np.float64)
        column = int(np.abs(row).argmax())
        raise TaskError(
            f"{where}: the answer for row {bad[0]} is not finite; column {column} of X is {row[column]:.4g} there; "
            "check its unit."
        )


def _conditioned(
    prior: TaskPrior, X: Array, y: Array, mask: NDArray[np.bool_], place: Callable[[int], str]
) -> Conditioned:
    """Return tasks given rows, or raise a TaskError that names the first task for which numbers become too large."""
    try:
        with np.errstate(all="ignore"):
            return prior.condition(X, y, mask)
    except (FloatingPointError, np.linalg.LinAlgError) as error:
        if len(X) > 1:
            for i in range(len(X)):
                one = slice(i, i + 1)
                _conditioned(prior, X[one], y[one], mask[one], partial(_same, place(i)))
        largest = float(np.abs(X[mask]).max(initial=0.0)), float(np.abs(y[mask]).max(initial=0.0))
        raise TaskError(
            f"{place(0)}: the rows are too far from those of the fit for an adaptation ({error}); the largest number "
            f"is {largest[0]:.4g} in X and {largest[1]:.4g} in y; check their units."
        ) from error


def _at(task: Conditioned, X: Array, *, spread: bool) -> Moments:
    with np.errstate(all="ignore"):
        return task.at(X, spread)


def _in_blocks(task: Conditioned, X: Array, sizes: NDArray[np.intp], *, spread: bool) -> Array:
    """Return moments as one array of shape (1 or 2, n_tasks, n_rows), for as many rows at a time as memory bears."""
    size = max(1, CHUNK_VALUES // (len(X) * max(1, int(sizes.max()))))
    parts = [_at(task, X[:, first : first + size], spread=spread) for first in range(0, X.shape[1], size)]
    return np.concatenate([np.stack([part for part in moments if part is not None]) for moments in parts], axis=2)


def _finite(moments: Moments, X: NDArray[Any], where: str) -> Moments:
    """Return moments of rows, or raise a TaskError that names the first row where they are not finite."""
    require_finite(moments.mean if moments.variance is None else moments.mean + moments.variance, X, where)
    return moments


def _whole(tasks: TaskSet, chosen: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the row numbers of some tasks, padded with each task's last one, and which count."""
    sizes = tasks.sizes[chosen][:, None]
    columns = np.arange(int(sizes.max()))
    return tasks.offsets[chosen][:, None] + np.minimum(columns, sizes - 1), columns < sizes


def _of_rows(tasks: TaskSet, rows: NDArray[np.intp], mask: NDArray[np.bool_]) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return X, y and mask of padded row numbers of shape (n_tasks, n_rows)."""
    return _as_numbers(tasks.X[rows]), _as_numbers(tasks.y.reshape(-1)[rows]), mask


def _as_numbers(values: NDArray[Any]) -> Array:
    return np.ascontiguousarray(values, dtype=np.float64)


def _named(tasks: TaskSet, chosen: NDArray[np.intp]) -> Callable[[int], str]:
    return lambda i: f"task {tasks.name_of(int(chosen[i]))!r}"


def _same(name: str, i: int) -> str:
    return name


def _chunks(heights: NDArray[np.intp], widths: NDArray[np.intp]) -> Iterator[NDArray[np.intp]]:
    """Yield numbers of tasks of about equal size, as many as have covariances of bounded size when padded."""
    order = np.lexsort((widths, heights))
    first = 0
    while first < len(order):
        ahead = order[first:]
        room = np.maximum.accumulate(np.maximum(heights[ahead], 1)) * np.maximum.accumulate(widths[ahead])
        n = max(1, int(np.searchsorted(room * np.arange(1, len(ahead) + 1), CHUNK_VALUES, side="right")))
        yield ahead[:n]
        first += n
