"""Few-shot episodes of tasks left out of a fit: a few rows to adapt on, and others to predict."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaest.exceptions import TaskError
from metaest.selection.targets import FEWEST_QUERY, Targets, taken
from metaest.tasks import Task, TaskSet

__all__ = ["Episode", "episodes", "feasible_shots"]

# episodes of one number of rows that are wanted
WANTED_EPISODES = 60
# draws of support rows from one task at most
MOST_DRAWS = 5


class Episode(NamedTuple):
    """Supports and queries of tasks, all of one number of support rows, with each task's number in the fit."""

    shot: int
    numbers: NDArray[np.intp]
    support: TaskSet
    query: TaskSet


def feasible_shots(sizes: NDArray[np.intp], shots: Sequence[int], unit: str = "rows") -> list[int]:
    """Return the numbers of support rows that leave query rows in half of the tasks or more, or that in any.

    Raises
    ------
    TaskError
        When no task has rows enough for the least number.
    """
    ordered = sorted(set(shots))
    for least in (0.5, 1 / len(sizes)):
        most = [shot for shot in ordered if (sizes >= shot + FEWEST_QUERY).mean() >= least]
        if most:
            return most
    largest = int(sizes.max())
    raise TaskError(
        f"shots: the least number of {unit} to adapt on is {ordered[0]}, and others are needed to judge by; the "
        f"largest task allows {max(largest - FEWEST_QUERY, 0)}."
    )


def episodes(
    targets: Targets,
    tasks: TaskSet,
    left_out: NDArray[np.intp],
    shots: Sequence[int],
    split: str,
    n_in_all: int,
    seed: int,
) -> Iterator[Episode]:
    """Draw the episodes of tasks; rows of one task do not depend on which other tasks are left out with it.

    Parameters
    ----------
    targets : Targets
    tasks : TaskSet
    left_out : ndarray of int
    shots : sequence of int
    split : {"random", "first"}
        Whether support rows are drawn, or are a task's first ones and queries the next.
    n_in_all : int
        Tasks left out in all folds together: with few, each is drawn from several times.
    seed : int
    """
    sizes = targets.sizes(tasks)
    draws = 1 if split == "first" else int(np.clip(-(-WANTED_EPISODES // n_in_all), 1, MOST_DRAWS))
    for shot in shots:
        for draw in range(draws):
            chosen = [int(i) for i in left_out if sizes[i] >= shot + FEWEST_QUERY]
            if not chosen:
                continue
            rngs = [np.random.default_rng([seed, shot, draw, i]) for i in chosen]
            pairs = [_split(targets, tasks[i], shot, split, rng) for i, rng in zip(chosen, rngs, strict=True)]
            supports, queries = zip(*pairs, strict=True)
            yield Episode(shot, np.array(chosen, dtype=np.intp), TaskSet(list(supports)), TaskSet(list(queries)))


def _split(targets: Targets, task: Task, shot: int, split: str, rng: np.random.Generator) -> tuple[Task, Task]:
    """Return the rows to adapt on, and rows to predict."""
    order = np.arange(len(task)) if split == "first" else rng.permutation(len(task))
    support, query = targets.split(task, shot, order)
    return taken(task, support), taken(task, query)
