"""Few-shot scorers for scikit-learn's ``scoring=``: adapt to some rows of every task, score its other rows.

scikit-learn's scorers by name (``scoring="r2"``) call ``predict``, which is the prediction before adaptation. The
scorers of this module adapt to each task first. They can be used wherever scikit-learn takes a scorer::

    cross_validate(model, tasks, scoring={"r2": few_shot_r2(shots=3), "mae": few_shot_mae(shots=3)})
    GridSearchCV(model, grid, scoring=few_shot_rmse(shots=3)).fit(tasks)

Flat rows need their groups, which reach a scorer under ``sklearn.set_config(enable_metadata_routing=True)``.
"""

from metaest.scorers.scorer import FewShotScorer

__all__ = [
    "FewShotScorer",
    "few_shot_accuracy",
    "few_shot_coverage",
    "few_shot_log_loss",
    "few_shot_mae",
    "few_shot_r2",
    "few_shot_rmse",
]


def few_shot_r2(
    shots: int, *, split: str | None = None, random_state: int = 0, guard: bool | None = None, gap: int = 0
) -> FewShotScorer:
    r"""Return a scorer: R2 of the predictions after adaptation to some rows of every task.

    .. math:: R^2 = 1 - \sum_t \sum_{i \in \mathrm{query}_t} (y_i - \hat y_i)^2 \Big/
              \sum_t \sum_{i \in \mathrm{query}_t} (y_i - \bar y)^2

    over the query rows of all tasks together. As in ``score``, :math:`\bar y` is the mean of the training targets;
    inside a TransformedTargetRegressor, which does not keep it, the mean of the query rows.

    Parameters
    ----------
    shots : int, at least 0
        Support rows of each task. Tasks that carry their own support are adapted to that, whatever the number. With 0
        the model before adaptation is scored.
    split : {"random", "first"}, optional
        Whether support rows are drawn, or are the first in row order; None takes the model's `split`.
    random_state : int, default=0
        Seed of the draw. The same tasks are split alike for every candidate, and the support of fewer shots is part
        of that of more shots.
    guard : bool, optional
        Whether a guard keeps, shrinks or refuses each adaptation; None takes the default of the model's `adapt`.
    gap : int, default=0
        Rows that the guard leaves out between those adapted on and those judged on.

    Returns
    -------
    FewShotScorer

    Raises
    ------
    ValueError
        When a setting has another value.

    Examples
    --------
    >>> from sklearn.model_selection import cross_validate
    >>> from metaest import MAMLRegressor
    >>> from metaest.scorers import few_shot_mae, few_shot_r2
    >>> from metaest_datasets import make_sinusoids
    >>> model = MAMLRegressor(max_iter=5, random_state=0)
    >>> scoring = {"r2": few_shot_r2(shots=3), "mae": few_shot_mae(shots=3)}
    >>> scores = cross_validate(model, make_sinusoids(60, random_state=0), cv=3, scoring=scoring)
    >>> scores["test_r2"].shape, bool((scores["test_mae"] < 0).all())
    ((3,), True)
    """
    return FewShotScorer("few_shot_r2", shots, split, random_state, guard, gap)


def few_shot_rmse(
    shots: int, *, split: str | None = None, random_state: int = 0, guard: bool | None = None, gap: int = 0
) -> FewShotScorer:
    """Return a scorer: minus the root mean squared error after adaptation to some rows of every task.

    The error is over the query rows of all tasks together, in the units of y (the mean over targets where there are
    several), with its sign changed, since scikit-learn chooses what scores highest.

    Parameters
    ----------
    shots, split, random_state, guard, gap
        As :func:`few_shot_r2` takes them.

    Returns
    -------
    FewShotScorer

    Examples
    --------
    >>> from metaest.scorers import few_shot_rmse
    >>> few_shot_rmse(shots=3)
    few_shot_rmse(shots=3, greater_is_better=False)
    """
    return FewShotScorer("few_shot_rmse", shots, split, random_state, guard, gap)


def few_shot_mae(
    shots: int, *, split: str | None = None, random_state: int = 0, guard: bool | None = None, gap: int = 0
) -> FewShotScorer:
    """Return a scorer: minus the mean absolute error after adaptation to some rows of every task.

    Rows, units, sign and parameters are those of :func:`few_shot_rmse`.
    """
    return FewShotScorer("few_shot_mae", shots, split, random_state, guard, gap)


def few_shot_accuracy(
    shots: int,
    *,
    per_class: bool = True,
    split: str | None = None,
    random_state: int = 0,
    guard: bool | None = None,
    gap: int = 0,
) -> FewShotScorer:
    """Return a scorer: the share of query rows classified correctly after adaptation to some rows of every task.

    Parameters
    ----------
    shots : int, at least 0
        Support rows of each class of a task (of the task with ``per_class=False``). Tasks that carry their own support
        are adapted to that, whatever the number.
    per_class : bool, default=True
        Whether `shots` counts the rows of each class, or of the task, whatever their classes.
    split, random_state, guard, gap
        As :func:`few_shot_r2` takes them.

    Returns
    -------
    FewShotScorer

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metaest import MAMLClassifier, Task
    >>> from metaest.scorers import few_shot_accuracy
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MAMLClassifier(n_way=3, k_shot=3, max_iter=35, random_state=0).fit(X[y < 7], y[y < 7])
    >>> few_shot_accuracy(shots=3)(model, [Task("the last three", X[y >= 7], y[y >= 7])]) > 0.6
    True
    """
    return FewShotScorer("few_shot_accuracy", shots, split, random_state, guard, gap, per_class)


def few_shot_log_loss(
    shots: int,
    *,
    per_class: bool = True,
    split: str | None = None,
    random_state: int = 0,
    guard: bool | None = None,
    gap: int = 0,
) -> FewShotScorer:
    """Return a scorer: minus the log loss of the probabilities after adaptation to some rows of every task.

    The loss is the mean over the query rows of all tasks together of minus the logarithm of the probability of the true
    class, with its sign changed, since scikit-learn chooses what scores highest.

    Parameters
    ----------
    shots, per_class, split, random_state, guard, gap
        As :func:`few_shot_accuracy` takes them.

    Returns
    -------
    FewShotScorer
    """
    return FewShotScorer("few_shot_log_loss", shots, split, random_state, guard, gap, per_class)


def few_shot_coverage(
    shots: int,
    *,
    level: float = 0.9,
    method: str | None = None,
    split: str | None = None,
    random_state: int = 0,
    guard: bool | None = None,
    gap: int = 0,
) -> FewShotScorer:
    """Return a scorer: the share of query rows inside the interval predicted after adaptation.

    It should come out near `level`. It is meant for reports and not for the choice of a model, since the widest
    intervals cover most.

    Parameters
    ----------
    shots, split, random_state, guard, gap
        As :func:`few_shot_r2` takes them.
    level : float, default=0.9
        Nominal coverage of the intervals, between 0 and 1.
    method : str, optional
        As the predictor's ``predict_interval`` takes it; None is its default. Conformal intervals need ``calibrate``
        after the fit, so they can be scored on a fitted model but not in cross-validation.

    Returns
    -------
    FewShotScorer

    Examples
    --------
    >>> import torch
    >>> from metaest import EquationRegressor, Parameter
    >>> from metaest.scorers import few_shot_coverage
    >>> from metaest_datasets import make_sinusoids
    >>> def wave(X, amplitude, phase):
    ...     return amplitude * torch.sin(X[:, 0] + phase)
    >>> constants = {"amplitude": Parameter(2.0, lower=0), "phase": Parameter(1.5)}
    >>> tasks = make_sinusoids(40, 10, noise=0.1, random_state=0)
    >>> model = EquationRegressor(wave, constants).fit(tasks[:20])
    >>> 0.8 < few_shot_coverage(shots=4, level=0.9)(model, tasks[20:]) < 1
    True
    """
    return FewShotScorer("few_shot_coverage", shots, split, random_state, guard, gap, level=level, method=method)
