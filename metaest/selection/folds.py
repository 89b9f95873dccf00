"""Folds of tasks: which are fitted on, and which are left out to be judged on."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["MOST_TASKS", "folds"]

# from so many tasks on, a quarter of them is left out once; below, every task is left out once
MANY_TASKS = 120
# tasks that candidates are compared on, at most
MOST_TASKS = 500


def folds(
    able: NDArray[np.bool_], cv: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the numbers of the tasks that are fitted on, and of those left out, of each comparison.

    Parameters
    ----------
    able : ndarray of bool, shape (n_tasks,)
        Tasks with rows enough to be judged on; of many tasks, only such are left out.
    cv : int
        Folds below MANY_TASKS tasks; at most as many as there are tasks.
    rng : Generator
    """
    order = rng.permutation(len(able))
    if len(order) >= MANY_TASKS:
        judged = order[able[order]] if able.any() else order
        left_out = judged[: max(1, min(len(judged), MOST_TASKS) // 4)]
        others = order[~np.isin(order, left_out)]
        # the last ones: the first have lost more of the tasks that can be judged on
        return [(np.sort(others[-(MOST_TASKS - len(left_out)) :]), np.sort(left_out))]
    parts = np.array_split(order, min(cv, len(order)))
    return [(np.setdiff1d(order, part), np.sort(part)) for part in parts]
