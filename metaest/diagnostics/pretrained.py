"""Train one classifier on all classes of all tasks, then fine-tune it to the classes of the next."""

from copy import deepcopy

import numpy as np
import torch
from sklearn.base import clone
from torch import nn
from torch.nn.utils import skip_init

from metaest.diagnostics.baselines import PLAIN
from metaest.estimators import MAMLClassifier
from metaest.estimators.arguments import require_model
from metaest.functional.modules.head import last_layer
from metaest.tasks import Task, TaskSet, TasksLike
from metaest.tasks.weighted_tasks import refuse_weights

__all__ = ["pretrained"]


def pretrained(model: MAMLClassifier, tasks: TasksLike) -> MAMLClassifier:
    """Train the network as an ordinary classifier of all labels there are, and give it a new last layer.

    Nothing is learned of how tasks adapt. Adaptation is fine-tuning: gradient steps on the support from the trained
    weights, and from zero in the last layer; with ``adapt_layers="head"`` of the last layer alone (Chen and others,
    2019, arXiv:1904.04232).

    Parameters
    ----------
    model : MAMLClassifier
        Gives network, budget, seed, and layers, number and rate of the steps of fine-tuning; it is cloned, not changed.
    tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        A label has to mean the same wherever it stands. All rows count, also those a task marks as support.

    Returns
    -------
    MAMLClassifier
        Fitted; its ``adapt`` fine-tunes.

    Raises
    ------
    ValueError
        When the network does not end in a linear layer.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metaest import MAMLClassifier, Task
    >>> from metaest.diagnostics import pretrained
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MAMLClassifier(n_way=3, inner_steps=20, inner_lr=0.1, max_iter=50, random_state=0)
    >>> tuned = pretrained(model, [Task("digits", X[y < 7], y[y < 7])])
    >>> tuned.adapt(X[7:10], [7, 8, 9]).predict(X[17:20]).shape
    (3,)
    """
    require_model(model, MAMLClassifier, "pretrained")
    tasks = tasks if isinstance(tasks, TaskSet) else TaskSet(tasks)
    refuse_weights(tasks)
    whole = [Task("all", tasks.X, tasks.y, feature_names=tasks.feature_names)]
    joint: MAMLClassifier = clone(model).set_params(
        **PLAIN, shared_labels=True, n_way=None, k_shot=None, n_query=1, support_size=0, inner_steps=0
    )
    joint.fit(whole)
    n_outputs = len(joint.classes_) if model.n_way is None else model.n_way
    plain = {**PLAIN, "adapt_layers": model.adapt_layers}
    tuned: MAMLClassifier = clone(model).set_params(
        **plain, module=_with_new_head(joint.module_, tasks, n_outputs), meta_lr=0.0, max_iter=1, alpha=0.0
    )
    return tuned.fit(tasks)


def _with_new_head(module: nn.Module, tasks: TaskSet, n_outputs: int) -> nn.Module:
    """Return a copy whose last layer is zero, with this many outputs."""
    module = deepcopy(module)
    like = next(module.parameters())
    name = last_layer(module, torch.tensor(np.array(tasks.X[:8])).to(like))
    head = None if name is None else module.get_submodule(name)
    if name is None or not isinstance(head, nn.Linear):
        raise ValueError("fine-tuning replaces the last layer, which must be a torch.nn.Linear; the module has none.")
    # made without drawing random numbers
    new = skip_init(nn.Linear, head.in_features, n_outputs, dtype=like.dtype)  # type: ignore[no-untyped-call]
    new = new.to(like)
    nn.init.zeros_(new.weight)
    nn.init.zeros_(new.bias)
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, new)
    return module
