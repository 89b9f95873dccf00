"""Study steel tempering: compositions are left out in turn."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from metaest import CorrelatedResidualsWarning, IdentifiabilityWarning, TaskSet, UnlikelyTaskWarning
from metaest_datasets import fetch_steel_tempering
from metaest_domains.kinetics.study.evaluation import Method, Prediction, evaluate
from metaest_domains.kinetics.study.rivals import gaussian_process
from metaest_domains.kinetics.tempering import HollomonJaffeRegressor

__all__ = ["COMPOSITION", "steel_model", "study_steel"]

# elements that more than a few of the steels contain in relevant amounts
COMPOSITION = ["C", "Mn", "Si", "Ni", "Cr", "Mo"]


def study_steel(
    *, sizes: list[int] | None = None, repetitions: int = 20, jobs: int = 1, tasks: TaskSet | None = None
) -> pd.DataFrame:
    """Leave out one composition after the other; adapt to a few hardness measurements and predict the rest.

    Parameters
    ----------
    sizes : list of int, optional
        Numbers of measurements; 0, 2, 3, 5 and 8 by default.
    repetitions : int, default=20
        Random supports of each size.
    jobs : int, default=1
        Processes.
    tasks : TaskSet, optional
        Steels to use in place of the published ones.

    Returns
    -------
    DataFrame
        Records of :func:`evaluate`; mean squared errors in HRC squared.
    """
    tasks = fetch_steel_tempering() if tasks is None else tasks
    records = Parallel(jobs)(delayed(_fold)(tasks, i, sizes or [0, 2, 3, 5, 8], repetitions) for i in range(len(tasks)))
    return pd.DataFrame([record for fold in records for record in fold])


def _fold(tasks: TaskSet, held: int, sizes: list[int], repetitions: int) -> list[dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    for kind in (CorrelatedResidualsWarning, IdentifiabilityWarning, UnlikelyTaskWarning):
        warnings.simplefilter("ignore", kind)
    training = tasks[[i for i in range(len(tasks)) if i != held]]
    task = tasks[held]
    sizes = [size for size in sizes if size < len(task.y)]
    name = tasks.name_of(held)
    return evaluate(_methods(training), task.X, task.y.reshape(-1), name, sizes, repetitions, [held], {})


def steel_model(composition: bool = True, bent: bool = True) -> HollomonJaffeRegressor:
    """Return the model of the study: level and slope depend on the composition, and the line may be curved."""
    covariates = {"a": COMPOSITION, "b": COMPOSITION} if composition else None
    return HollomonJaffeRegressor(optional=["c"] if bent else [], covariates=covariates)


def _methods(training: TaskSet) -> dict[str, Method]:
    methods: dict[str, Method] = {}
    for bent, name in ((False, "Hollomon-Jaffe"), (True, "Hollomon-Jaffe, bent")):
        methods[name] = _equation(steel_model(False, bent).fit(training))
        methods[f"{name}, composition"] = _equation(steel_model(True, bent).fit(training))
    pooled = HollomonJaffeRegressor(random=[]).fit(training)
    methods["pooled line"] = lambda X, y: Prediction(lambda rows: np.asarray(pooled.predict(rows)))
    C = float(pooled.population_.loc["C", "value"])
    methods["steel by steel: line, pooled C"] = lambda X, y: _line(X, y, C)
    pairs = [(task.X, task.y.reshape(-1)) for task in training]
    names = list(training.feature_names or [])
    columns = [names.index(c) for c in ("time", "temperature", *COMPOSITION)]
    methods["Gaussian process"] = gaussian_process(pairs, columns)
    return methods


def _equation(model: HollomonJaffeRegressor) -> Method:
    def adapt(X: NDArray[Any], y: NDArray[Any]) -> Prediction:
        if not len(y):
            return Prediction(model.predict, model.predict_interval)
        adapted = model.adapt(X, y)
        return Prediction(adapted.predict, adapted.predict_interval)

    return adapt


def _line(X: NDArray[Any], y: NDArray[Any], C: float) -> Prediction:
    """Fit a straight line in the Hollomon-Jaffe parameter to the rows of one steel; one row gives a constant."""

    def parameter(rows: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(rows[:, 1] * (C + np.log10(rows[:, 0])) / 1000)

    if len(y) < 2:
        level = float(y.mean()) if len(y) else float("nan")
        return Prediction(lambda rows: np.full(len(rows), level))
    slope, level = np.polyfit(parameter(X), y, 1)
    return Prediction(lambda rows: np.asarray(level + slope * parameter(rows)))
