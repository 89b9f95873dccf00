"""What a user would do without meta-learning, with the same network, data and training budget.

Each baseline is the user's own :class:`~metaest.MAMLRegressor` with other settings, so that nothing but the method
differs: joint training instead of meta-training, or no training on other tasks at all.
"""

from collections.abc import Iterable
from itertools import product
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.model_selection import KFold

from metaest.estimators import MAMLRegressor
from metaest.tasks import Task, TaskSet

__all__ = ["fine_tuned", "from_scratch", "pooled"]

STEPS = (1, 2, 5, 10, 20, 50, 100)
RATES = (0.01, 0.03, 0.1)


def pooled(model: MAMLRegressor, tasks: Iterable[Task]) -> MAMLRegressor:
    """Train one network on the rows of all tasks together; its ``adapt`` leaves it as it is.

    Parameters
    ----------
    model : MAMLRegressor
        Gives network, budget and seed; it is cloned, not changed.
    tasks : TaskSet or iterable of Task
        All rows count, also those a task marks as support.

    Returns
    -------
    MAMLRegressor
        Fitted, with ``inner_steps=0``.

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest.diagnostics import pooled
    >>> from metaest_datasets import make_linear_tasks
    >>> tasks, _ = make_linear_tasks(20, random_state=0)
    >>> pooled(MAMLRegressor(max_iter=50, random_state=0), tasks).inner_steps
    0
    """
    joint = clone(model).set_params(support_size=0, inner_steps=0)
    return joint.fit(_without_support(tasks))


def fine_tuned(
    model: MAMLRegressor, tasks: Iterable[Task], *, n_support: int | tuple[int, int] = (1, 5), cv: int = 4
) -> MAMLRegressor:
    """Train the pooled network, then adapt it by gradient steps whose number and rate suit the training tasks best.

    Number and rate are chosen by cross-validation over the training tasks: the pooled network is trained on some,
    fine-tuned to `n_support` rows of each other one, and judged on its remaining rows.

    Parameters
    ----------
    model : MAMLRegressor
    tasks : TaskSet or iterable of Task
    n_support : int or (smallest, largest), default=(1, 5)
        Rows to adapt on while the number of steps and the rate are chosen.
    cv : int, default=4
        Number of folds, at most the number of tasks.

    Returns
    -------
    MAMLRegressor
        Fitted; ``inner_steps`` and ``inner_lr`` are the chosen ones.

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest.diagnostics import fine_tuned
    >>> from metaest_datasets import make_linear_tasks
    >>> tasks, _ = make_linear_tasks(20, random_state=0)
    >>> fine_tuned(MAMLRegressor(max_iter=50, random_state=0), tasks).inner_steps > 0
    True
    """
    plain = _without_support(tasks)
    candidates = list(product(STEPS, RATES))
    errors = np.zeros(len(candidates))
    for training, held_out in KFold(min(cv, len(plain)), shuffle=True, random_state=0).split(np.arange(len(plain))):
        joint = pooled(model, plain[training]).set_params(support_size=n_support)
        for i, (steps, rate) in enumerate(candidates):
            joint.set_params(inner_steps=steps, inner_lr=rate)
            errors[i] += 1 - joint.score(plain[held_out])
    errors[~np.isfinite(errors)] = np.inf
    steps, rate = candidates[int(np.argmin(errors))]
    return pooled(model, plain).set_params(inner_steps=steps, inner_lr=rate, support_size=model.support_size)


def from_scratch(model: MAMLRegressor, tasks: Iterable[Task], *, steps: int = 500, rate: float = 0.05) -> MAMLRegressor:
    """Return a network with random weights, whose ``adapt`` trains it on the support rows alone.

    Parameters
    ----------
    model : MAMLRegressor
    tasks : TaskSet or iterable of Task
        Used for the scaling of the columns only.
    steps : int, default=500
        Gradient steps of an adaptation.
    rate : float, default=0.05

    Returns
    -------
    MAMLRegressor

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest.diagnostics import from_scratch
    >>> from metaest_datasets import make_linear_tasks
    >>> tasks, _ = make_linear_tasks(20, random_state=0)
    >>> from_scratch(MAMLRegressor(random_state=0), tasks).adapt(tasks[0].X[:3], tasks[0].y[:3])
    AdaptedRegressor(1 feature, adapted on 3 rows)
    """
    untrained = clone(model).set_params(meta_lr=0.0, max_iter=1, early_stopping=False, support_size=0)
    untrained.fit(_without_support(tasks))
    return untrained.set_params(inner_steps=steps, inner_lr=rate, support_size=model.support_size)


def _without_support(tasks: Any) -> TaskSet:
    tasks = tasks if isinstance(tasks, TaskSet) else TaskSet(tasks)
    return TaskSet.from_arrays(
        tasks.X,
        tasks.y,
        np.repeat(np.arange(len(tasks)), tasks.sizes),
        feature_names=tasks.feature_names,
        target_names=tasks.target_names,
    )
