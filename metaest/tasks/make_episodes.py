"""N-way K-shot episodes of one labelled data set, as tasks."""

from typing import Any

import numpy as np

from metaest.exceptions import TaskError
from metaest.tasks.arguments import as_whole
from metaest.tasks.classes import labels_of
from metaest.tasks.random_state import generator_of
from metaest.tasks.task import Task
from metaest.tasks.task_set import TaskSet

__all__ = ["make_episodes"]


# more episodes, or rows of one, do not fit into memory
MOST_EPISODES = 10**7


def make_episodes(
    X: Any,
    y: Any,
    n_way: int,
    k_shot: int,
    n_query: int,
    *,
    n_episodes: int = 600,
    random_state: Any = None,
) -> TaskSet:
    """Draw classification tasks from one labelled data set.

    Each has `n_way` of the classes, and of each of these `k_shot` rows to adapt on and `n_query` others to be judged
    by. Classes with too few rows are an error and not left out.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features), or images (n_rows, channels, height, width)
    y : array-like of shape (n_rows,)
        Labels.
    n_way : int, at least 2
    k_shot, n_query : int, at least 1
    n_episodes : int, default=600
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    TaskSet
        Tasks named by number, which carry their support.

    Raises
    ------
    TaskError
        When there are fewer classes than `n_way`, or a class has fewer rows than ``k_shot + n_query``.
    ValueError
        When a number is too small or beyond ten million, or y is continuous.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metaest import make_episodes
    >>> episodes = make_episodes(*load_digits(return_X_y=True), 5, 1, 15, n_episodes=10, random_state=0)
    >>> episodes
    TaskSet(10 tasks, 800 rows (80 a task), 64 features, 1 target)
    >>> len(episodes[0].support)
    5
    """
    n_way = as_whole(n_way, "n_way", least=2, most=MOST_EPISODES)
    k_shot = as_whole(k_shot, "k_shot", most=MOST_EPISODES)
    n_query = as_whole(n_query, "n_query", most=MOST_EPISODES)
    n_episodes = as_whole(n_episodes, "n_episodes", most=MOST_EPISODES)
    whole = Task("the data set", X, y)
    labels, codes, counts = np.unique(
        labels_of(whole.y, lambda row: f"row {row}"), return_inverse=True, return_counts=True
    )
    if len(labels) < n_way:
        raise TaskError(f"there are {len(labels)} classes, fewer than n_way={n_way}.")
    if counts.min() < k_shot + n_query:
        i = int(np.argmin(counts))
        raise TaskError(
            f"class {labels.tolist()[i]!r} has {counts[i]} rows; k_shot={k_shot} and n_query={n_query} need "
            f"{k_shot + n_query}. Leave the class out, or take fewer."
        )
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(counts)[:-1])
    generator = generator_of(random_state)
    rows = np.empty((n_episodes, k_shot + n_query, n_way), dtype=np.intp)
    for episode in rows:
        for place, number in enumerate(generator.choice(len(labels), n_way, replace=False)):
            episode[:, place] = generator.permutation(members[number])[: k_shot + n_query]
    support = range(k_shot * n_way)
    return TaskSet(
        Task(i, whole.X[chosen], whole.y.reshape(-1)[chosen], support=support, feature_names=whole.feature_names)
        for i, chosen in enumerate(rows.reshape(n_episodes, -1))
    )
