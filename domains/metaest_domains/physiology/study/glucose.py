"""Glucose of nineteen people, leave one person out: adapted on the first day, judged on the days after it."""

from typing import Any, NamedTuple

import joblib
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from metaest import TaskSet
from metaest.functional.progress import progress as shown
from metaest_datasets import fetch_hall2018
from metaest_domains.physiology.glucose import DAY, GlucoseForecaster, changes
from metaest_domains.physiology.glucose_errors import glucose_errors
from metaest_domains.physiology.windows import Windows, glucose_windows

__all__ = ["METHODS", "PersonOut", "leave_one_person_out"]

METHODS = {
    "persistence": "the last reading",
    "pooled": "linear autoregression, pooled",
    "own": "linear autoregression, own first day",
    "network": "GlucoseForecaster, not adapted",
    "adapted": "GlucoseForecaster, adapted",
    "guarded": "GlucoseForecaster, guarded",
    "fine_tuned": "pooled network, fine-tuned",
}
TINY = 1e-3  # ridge of the autoregressions, which keeps them defined
N_INNER = 6  # people held out of a fold to choose settings on
CANDIDATES: tuple[dict[str, Any], ...] = (
    {"adapt_layers": "head", "inner_lr": 0.01},
    {"adapt_layers": "head", "inner_lr": 0.05},
    {"adapt_layers": "all", "inner_lr": 0.02},
)


class PersonOut(NamedTuple):
    """What came of leaving each person out.

    Attributes
    ----------
    errors : DataFrame
        One row a person, a method and a horizon: what :func:`glucose_errors` returns.
    forecasts : dict
        By person: what came and what was forecast 30 minutes ahead by the guarded model.
    decisions : Series
        What the guard did, by person.
    chosen : Series
        Which candidate was chosen, by person.
    """

    errors: pd.DataFrame
    forecasts: dict[Any, tuple[NDArray[np.float64], NDArray[np.float64]]]
    decisions: pd.Series
    chosen: pd.Series


def leave_one_person_out(
    *, max_iter: int = 500, n_jobs: int = -1, progress: bool = False, people: TaskSet | None = None
) -> PersonOut:
    """Forecast each person from a model of the eighteen others, adapted on the first 24 hours.

    In each fold a setting is chosen from three by the error of six of the eighteen, forecast from the other twelve; the
    person left out has no part in it.

    Parameters
    ----------
    max_iter : int, default=500
        Meta-steps.
    n_jobs : int, default=-1
        Processes.
    progress : bool, default=False
    people : TaskSet, optional
        None fetches the data.

    Returns
    -------
    PersonOut

    Raises
    ------
    OSError
        When the data are neither in the cache nor to be had.
    """
    people = fetch_hall2018() if people is None else people
    jobs = (joblib.delayed(_one)(people, i, max_iter) for i in range(len(people)))
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    found = list(shown(parallel(jobs), progress, "left out", "person", len(people)))
    names = people.names.tolist()
    errors = pd.concat([part for part, _, _, _ in found], ignore_index=True)
    return PersonOut(
        errors,
        dict(zip(names, [own for _, own, _, _ in found], strict=True)),
        pd.Series([own for _, _, own, _ in found], index=names),
        pd.Series([own for _, _, _, own in found], index=names),
    )


def _one(people: TaskSet, i: int, max_iter: int) -> Any:
    torch.set_num_threads(1)
    others = people[np.delete(np.arange(len(people)), i)]
    order = np.random.default_rng(i).permutation(len(others))
    inner = others[order[N_INNER:]]
    held_out = others[order[:N_INNER]]
    losses = []
    for settings in CANDIDATES:
        model = _forecaster(settings, max_iter).fit(inner)
        losses.append(np.mean([_rmse(model, task) for task in held_out]))
    chosen = int(np.argmin(losses))
    model = _forecaster(CANDIDATES[chosen], max_iter).fit(others)
    fine_tuned = _forecaster({**CANDIDATES[chosen], "inner_steps": 0}, max_iter).fit(others)
    fine_tuned.model_.set_params(inner_steps=20, inner_lr=0.05, adapt_layers="all")

    person = people[i]
    first, later = _apart(person)
    X = person.X[person.X[:, 0] <= DAY]
    y = person.y[person.X[:, 0] <= DAY]
    guarded = model.adapt(X, y)
    predictors = {
        "network": model,
        "adapted": model.adapt(X, y, guard=False),
        "guarded": guarded,
        "fine_tuned": fine_tuned.adapt(X, y, guard=False),
    }
    features, ahead = changes(later)
    known = [changes(_whole(task)) for task in others]
    lines = {
        "pooled": _autoregression(np.concatenate([f for f, _ in known]), np.concatenate([a for _, a in known])),
        "own": _autoregression(*changes(first)),
    }
    change: dict[str, NDArray[np.float64]] = {"persistence": np.zeros_like(ahead)}
    change |= {name: _with_one(features) @ own for name, own in lines.items()}
    change |= {name: own._change(features) for name, own in predictors.items()}
    last = later.history[:, -1:]
    rows = [
        {"person": person.name, "method": name, "horizon": horizon,
         **glucose_errors(later.ahead[:, j], np.maximum(last[:, 0] + own[:, j], 1.0))}
        for name, own in change.items() for j, horizon in enumerate((30, 60))
    ]  # fmt: skip
    assert guarded.guard_ is not None
    forecast = later.ahead[:, 0], last[:, 0] + change["guarded"][:, 0]
    return pd.DataFrame(rows), forecast, guarded.guard_.decision, str(CANDIDATES[chosen])


def _forecaster(settings: dict[str, Any], max_iter: int) -> GlucoseForecaster:
    return GlucoseForecaster(**settings, max_iter=max_iter, random_state=0)


def _whole(task: Any) -> Windows:
    return glucose_windows(task.X, task.y)


def _apart(task: Any) -> tuple[Windows, Windows]:
    """Return the windows of the first day, what comes after them included, and those of later days."""
    windows = _whole(task)
    first = windows.end + 60 <= DAY
    later = windows.end - 5.0 * (windows.history.shape[1] - 1) > DAY
    return windows.take(first), windows.take(later)


def _rmse(model: GlucoseForecaster, task: Any) -> float:
    """Root mean squared error 30 minutes ahead of an adapted model."""
    _, later = _apart(task)
    own = model.adapt(task.X[task.X[:, 0] <= DAY], task.y[task.X[:, 0] <= DAY], guard=False)
    features, ahead = changes(later)
    return float(np.sqrt(np.square(own._change(features)[:, 0] - ahead[:, 0]).mean()))


def _with_one(X: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([X, np.ones(len(X))])


def _autoregression(X: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    design = _with_one(X)
    return np.asarray(np.linalg.solve(design.T @ design + TINY * np.eye(design.shape[1]), design.T @ y))
