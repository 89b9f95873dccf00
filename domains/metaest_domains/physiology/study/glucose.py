"""Study glucose of nineteen people, leaving out one person at a time: adapt to the first day, predict later days."""

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
    "own": "linear autoregression, the person's first day",
    "network": "GlucoseForecaster, not adapted",
    "adapted": "GlucoseForecaster, adapted",
    "guarded": "GlucoseForecaster, guarded",
    "fine_tuned": "pooled network, fine-tuned",
}
# ridge penalty of the autoregressions, which makes them solvable for few rows
TINY = 1e-3
# people held out of a fold to choose settings on
N_INNER = 6
# settings of the network that are compared
CANDIDATES: tuple[dict[str, Any], ...] = (
    {"adapt_layers": "head", "inner_lr": 0.01},
    {"adapt_layers": "head", "inner_lr": 0.05},
    {"adapt_layers": "all", "inner_lr": 0.02},
)


class PersonOut(NamedTuple):
    """Results of leaving out each person in turn.

    Attributes
    ----------
    errors : DataFrame
        One row for each person, method and horizon, with the measures of :func:`glucose_errors`.
    forecasts : dict
        Readings and forecasts of the guarded model, 30 minutes ahead, by person.
    decisions : Series
        Decision of the guard, by person.
    chosen : Series
        Chosen settings, by person.
    """

    errors: pd.DataFrame
    forecasts: dict[Any, tuple[NDArray[np.float64], NDArray[np.float64]]]
    decisions: pd.Series
    chosen: pd.Series


def leave_one_person_out(
    *, max_iter: int = 500, n_jobs: int = -1, progress: bool = False, people: TaskSet | None = None
) -> PersonOut:
    """Forecast each person from a model of the eighteen others, adapted on the first 24 hours.

    In each fold one of three settings is chosen by the error on six of the eighteen people, with models of the other
    twelve; the person left out plays no part in the choice.

    Parameters
    ----------
    max_iter : int, default=500
        Number of meta-steps.
    n_jobs : int, default=-1
        Number of processes; -1 for all processors.
    progress : bool, default=False
        True shows a progress bar.
    people : TaskSet, optional
        People in place of the published data, which are fetched by default.

    Returns
    -------
    PersonOut

    Raises
    ------
    OSError
        When the data are neither in the cache nor available for download.
    """
    people = fetch_hall2018() if people is None else people
    jobs = (joblib.delayed(_one)(people, i, max_iter) for i in range(len(people)))
    parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator")
    results = list(shown(parallel(jobs), progress, "left out", "person", len(people)))
    names = people.names.tolist()
    errors, forecasts, decisions, chosen = zip(*results, strict=True)
    return PersonOut(
        pd.concat(errors, ignore_index=True),
        dict(zip(names, forecasts, strict=True)),
        pd.Series(decisions, index=names),
        pd.Series(chosen, index=names),
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
    pairs = [changes(_whole(task)) for task in others]
    lines = {
        "pooled": _autoregression(np.concatenate([f for f, _ in pairs]), np.concatenate([a for _, a in pairs])),
        "own": _autoregression(*changes(first)),
    }
    change: dict[str, NDArray[np.float64]] = {"persistence": np.zeros_like(ahead)}
    change |= {name: _with_one(features) @ coefficients for name, coefficients in lines.items()}
    change |= {name: predictor.change(features) for name, predictor in predictors.items()}
    last = later.history[:, -1:]
    rows = []
    for name, predicted in change.items():
        for j, horizon in enumerate((30, 60)):
            errors = glucose_errors(later.ahead[:, j], np.maximum(last[:, 0] + predicted[:, j], 1.0))
            rows.append({"person": person.name, "method": name, "horizon": horizon, **errors})
    assert guarded.guard_ is not None
    forecast = later.ahead[:, 0], last[:, 0] + change["guarded"][:, 0]
    return pd.DataFrame(rows), forecast, guarded.guard_.decision, str(CANDIDATES[chosen])


def _forecaster(settings: dict[str, Any], max_iter: int) -> GlucoseForecaster:
    return GlucoseForecaster(**settings, max_iter=max_iter, random_state=0)


def _whole(task: Any) -> Windows:
    return glucose_windows(task.X, task.y)


def _apart(task: Any) -> tuple[Windows, Windows]:
    """Return the windows of the first day, with horizons inside that day, and those of later days."""
    windows = _whole(task)
    first = windows.end + 60 <= DAY
    later = windows.end - 5.0 * (windows.history.shape[1] - 1) > DAY
    return windows.take(first), windows.take(later)


def _rmse(model: GlucoseForecaster, task: Any) -> float:
    """Return the root mean squared error of an adapted model, 30 minutes ahead."""
    _, later = _apart(task)
    adapted = model.adapt(task.X[task.X[:, 0] <= DAY], task.y[task.X[:, 0] <= DAY], guard=False)
    features, ahead = changes(later)
    return float(np.sqrt(np.square(adapted.change(features)[:, 0] - ahead[:, 0]).mean()))


def _with_one(X: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.column_stack([X, np.ones(len(X))])


def _autoregression(X: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    design = _with_one(X)
    return np.asarray(np.linalg.solve(design.T @ design + TINY * np.eye(design.shape[1]), design.T @ y))
