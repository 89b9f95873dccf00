"""Baselines without meta-learning, with the same network, data and training budget.

Each baseline is the user's own :class:`~metaest.MAMLRegressor` with other settings, so that nothing but the method
differs: joint training instead of meta-training, or no training on other tasks at all. Settings of the variants
(layers, learned rates, context, head) are those of plain MAML in all of them.
"""

from copy import deepcopy
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.model_selection import KFold
from torch import nn

from metaest.estimators import MAMLRegressor
from metaest.estimators.arguments import require_count, require_model
from metaest.estimators.inputs import as_tasks
from metaest.exceptions import DivergenceError
from metaest.tasks import TaskSet, TasksLike
from metaest.tasks.weighted_tasks import refuse_weights

__all__ = ["ScratchRegressor", "fine_tuned", "from_scratch", "pooled"]

# joint training knows nothing of how a task adapts; fine-tuning moves everything by plain gradient steps
PLAIN = {
    "inner_solver": "gradient",
    "learn_inner_lr": False,
    "adapt_layers": "all",
    "context_dim": 0,
    "meta_gradient": "exact",
    "multi_step_share": 0.0,
    "first_order_share": 0.0,
}
STEPS = (1, 2, 5, 10, 20, 50, 100)
RATES = (0.001, 0.003, 0.01)


def pooled(model: MAMLRegressor, tasks: TasksLike) -> MAMLRegressor:
    """Train one network on the rows of all tasks together; its ``adapt`` leaves it as it is.

    Parameters
    ----------
    model : MAMLRegressor
        Gives network, budget and seed; it is cloned, not changed.
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
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
    require_model(model, MAMLRegressor, "pooled")
    joint: MAMLRegressor = clone(model).set_params(support_size=0, inner_steps=0, **_plain(model))
    return joint.fit(_without_support(tasks))


def fine_tuned(
    model: MAMLRegressor, tasks: TasksLike, *, n_support: int | tuple[int, int] = (1, 5), cv: int = 4
) -> MAMLRegressor:
    """Train the pooled network, then adapt it by gradient steps whose number and rate suit the training tasks best.

    Number and rate are chosen by cross-validation over the training tasks: the pooled network is trained on some,
    fine-tuned to `n_support` rows of each other one, and judged on its remaining rows.

    Parameters
    ----------
    model : MAMLRegressor
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
    n_support : int or (smallest, largest), default=(1, 5)
        Rows to adapt on while the number of steps and the rate are chosen.
    cv : int, default=4
        Number of folds, at most the number of tasks.

    Raises
    ------
    ValueError
        For a ``torch.nn.Module`` that takes context columns.

    Returns
    -------
    MAMLRegressor
        Fitted; ``inner_steps`` and ``inner_lr`` are the chosen ones.

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest.diagnostics import fine_tuned
    >>> from metaest_datasets import make_linear_tasks
    >>> tasks, _ = make_linear_tasks(12, random_state=0)
    >>> fine_tuned(MAMLRegressor(max_iter=20, random_state=0), tasks).inner_steps > 0
    True
    """
    require_model(model, MAMLRegressor, "fine_tuned")
    require_count(cv, "cv", 2, "folds")
    if _plain(model)["context_dim"]:
        raise ValueError(
            "fine_tuned moves all weights, but a module of one's own with context columns adapts its context alone; "
            "give a module without them, and context_dim=0."
        )
    plain = _without_support(tasks)
    candidates = list(product(STEPS, RATES))
    errors = np.zeros(len(candidates))
    for training, held_out in KFold(min(cv, len(plain)), shuffle=True, random_state=0).split(np.arange(len(plain))):
        joint = pooled(model, plain[training]).set_params(support_size=n_support)
        for i, (steps, rate) in enumerate(candidates):
            joint.set_params(inner_steps=steps, inner_lr=rate)
            errors[i] += _loss(joint, plain[held_out])
    steps, rate = candidates[int(np.argmin(errors))]
    tuned = pooled(model, plain)
    tuned.set_params(inner_steps=steps, inner_lr=rate, support_size=model.support_size)
    return tuned


def _plain(model: MAMLRegressor) -> dict[str, Any]:
    """Return the settings of plain MAML; a module that takes context columns keeps them, at zero."""
    return {**PLAIN, "context_dim": model.context_dim if isinstance(model.module, nn.Module) else 0}


def _loss(model: MAMLRegressor, tasks: TaskSet) -> float:
    try:
        return 1 - model.score(tasks)
    except DivergenceError:  # this many steps of this rate are out of the question
        return np.inf


class ScratchRegressor:
    """A network with random weights whose ``adapt`` trains it on the support rows alone; see :func:`from_scratch`."""

    def __init__(self, untrained: MAMLRegressor, settings: dict[str, Any], decay: float) -> None:
        self._untrained, self._settings, self._decay = untrained, settings, decay

    def adapt(self, X: Any, y: Any) -> MAMLRegressor:
        """Train on these rows alone.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)

        Returns
        -------
        MAMLRegressor
            Its ``predict`` is that of the trained network.
        """
        network = deepcopy(self._untrained)
        task = as_tasks(X, y, alone=True)
        network.set_params(warm_start=True, alpha=self._decay * len(task.X), **self._settings)
        return network.fit(task)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict with the random weights."""
        return np.asarray(self._untrained.predict(X))


def from_scratch(model: MAMLRegressor, tasks: TasksLike, *, max_iter: int = 300) -> ScratchRegressor:
    """Return a network that knows nothing but the scaling of the columns, and learns from the support rows alone.

    Parameters
    ----------
    model : MAMLRegressor
        Gives network, rate and seed; it is cloned, not changed.
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        Used for the scaling of the columns only.
    max_iter : int, default=300
        Steps of Adam on the support rows.

    Returns
    -------
    ScratchRegressor

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest.diagnostics import from_scratch
    >>> from metaest_datasets import make_linear_tasks
    >>> tasks, _ = make_linear_tasks(20, random_state=0)
    >>> scratch = from_scratch(MAMLRegressor(random_state=0), tasks)
    >>> scratch.adapt(tasks[0].X[:3], tasks[0].y[:3]).predict(tasks[0].X[:3]).shape
    (3,)
    """
    require_model(model, MAMLRegressor, "from_scratch")
    plain = _without_support(tasks)
    untrained: MAMLRegressor = clone(model)
    untrained.set_params(meta_lr=0.0, max_iter=1, early_stopping=False, support_size=0, inner_steps=0, **_plain(model))
    settings = {"meta_lr": model.meta_lr, "max_iter": max_iter}
    # alpha is divided by the number of rows: keep the decay of a fit to all tasks
    return ScratchRegressor(untrained.fit(plain), settings, model.alpha / len(plain.X))


def _without_support(tasks: Any) -> TaskSet:
    tasks = tasks if isinstance(tasks, TaskSet) else TaskSet(tasks)
    refuse_weights(tasks)
    return TaskSet.from_arrays(
        tasks.X,
        tasks.y,
        np.repeat(np.arange(len(tasks)), tasks.sizes),
        feature_names=tasks.feature_names,
        target_names=tasks.target_names,
    )
