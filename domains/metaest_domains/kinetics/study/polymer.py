"""Study polymer crystallisation: curves, or whole filler contents, are left out in turn."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray

from metaest import (
    CorrelatedResidualsWarning,
    IdentifiabilityWarning,
    OvershootWarning,
    Parameter,
    TaskSet,
    UnlikelyTaskWarning,
)
from metaest_datasets import fetch_polymer_crystallisation
from metaest_domains.kinetics.catalogue import KineticRegressor
from metaest_domains.kinetics.jmak import JMAKRegressor
from metaest_domains.kinetics.parallel import ParallelJMAKRegressor
from metaest_domains.kinetics.study.evaluation import Method, Prediction, evaluate
from metaest_domains.kinetics.study.rivals import curve_by_curve, fit_curve, gaussian_process, tuned_network

__all__ = ["fit_equations", "jmak", "load_curves", "report_jmak", "study_polymer", "whole_curve"]

FEATURES = ["time", "temperature", "filler", "log_filler", "temperature_2", "log_filler_2", "temperature_log_filler"]
# covariates by which temperature and filler may shift the constants; BIC chooses one set in every fold
ORDERS = {
    "first, filler": ["temperature", "filler"],
    "first, log filler": ["temperature", "log_filler"],
    "second, log filler": ["temperature", "log_filler", "temperature_2", "log_filler_2", "temperature_log_filler"],
}
# K, 45 C: the middle of the measured temperatures
MIDDLE = 318.15
# bounds of the constants (k in 1/s), the same for all methods
BOUNDS = {"k": (1e-4, 1.0), "n": (0.3, 6.0), "plateau": (0.5, 1.2)}
PARAMETERS = {
    "k": Parameter(0.03, lower=1e-4, upper=1.0, unit="1/s"),
    "n": Parameter(2.0, lower=0.3, upper=6.0),
}
PLATEAU = {**PARAMETERS, "plateau": Parameter(0.95, lower=0.5, upper=1.2)}
STARTS = [{"k": k, "n": n, "plateau": 0.95} for k in (0.01, 0.03, 0.1) for n in (1.0, 2.0, 3.5)]
PARALLEL = {**PARAMETERS, "w": Parameter(0.8, lower=0.3, upper=1.0), "k_2": Parameter(0.01, lower=1e-4, upper=0.5)}
FORMS: dict[str, tuple[type[KineticRegressor], dict[str, Any]]] = {
    "JMAK": (JMAKRegressor, {"parameters": PARAMETERS}),
    "JMAK, plateau": (JMAKRegressor, {"parameters": PLATEAU, "optional": ["plateau"]}),
    "parallel JMAK": (ParallelJMAKRegressor, {"parameters": PARALLEL}),
}
# rows of each curve that the network is trained on: the rows of a curve are close together
NETWORK_ROWS = 40
# settings of a network that are to be tuned in the fold
TUNE: dict[str, Any] = {}


def load_curves() -> TaskSet:
    """Return the curves between 2 and 98 %, with the logarithm of the filler content and second-order terms."""
    tasks = fetch_polymer_crystallisation()
    T = tasks.X[:, 1] - MIDDLE
    filler = np.log10(tasks.X[:, 2])
    X = np.column_stack([tasks.X, filler, T**2, filler**2, T * filler])
    groups = np.repeat(tasks.names, tasks.sizes)
    return TaskSet.from_arrays(X, tasks.y, groups, feature_names=FEATURES, target_names=["crystallinity"])


def jmak(X: NDArray[Any], k: float, n: float, plateau: float = 1.0) -> NDArray[Any]:
    """Return JMAK's curve, in numpy."""
    return np.asarray(plateau * (1 - np.exp(-((k * X[:, 0]) ** n))))


def fit_equations(training: TaskSet) -> dict[str, KineticRegressor]:
    """Fit every form without covariates, and with temperature and filler in the order of the lowest BIC."""
    models: dict[str, KineticRegressor] = {}
    for name, (family, settings) in FORMS.items():
        models[name] = family(**settings).fit(training)
        orders = [
            family(**settings, covariates=dict.fromkeys(settings["parameters"], columns)).fit(training)
            for columns in ORDERS.values()
        ]
        models[f"{name}, covariates"] = min(orders, key=lambda model: float(model.bic_))
    return models


def study_polymer(
    by: str = "curve", *, sizes: list[int] | None = None, repetitions: int = 5, network: bool = True, jobs: int = 1
) -> pd.DataFrame:
    """Leave out one curve, or one filler content, after the other; adapt to a few points and predict the rest.

    Parameters
    ----------
    by : {"curve", "filler"}
    sizes : list of int, optional
        Numbers of points drawn from the transforming part; 2, 3, 5 and 8 by default.
    repetitions : int, default=5
    network : bool, default=True
        True meta-learns networks as well, which takes most of the time.
    jobs : int, default=1
        Processes.

    Returns
    -------
    DataFrame
        Records of :func:`evaluate`.
    """
    tasks = load_curves()
    folds = _folds(tasks, by)
    settings: list[Any] = [None] * len(folds)
    if network:
        settings = _network_settings(tasks, jobs) if by == "curve" else [TUNE] * len(folds)
    records = Parallel(jobs)(
        delayed(_fold)(tasks, held, sizes or [2, 3, 5, 8], repetitions, setting)
        for held, setting in zip(folds, settings, strict=True)
    )
    return pd.DataFrame([record for fold in records for record in fold])


def _folds(tasks: TaskSet, by: str) -> list[list[int]]:
    if by == "curve":
        return [[i] for i in range(len(tasks))]
    filler = tasks.X[tasks.offsets[:-1], 2]
    return [np.flatnonzero(filler == value).tolist() for value in np.unique(filler)]


def _network_settings(tasks: TaskSet, jobs: int) -> list[dict[str, Any]]:
    """Choose the settings of the network for each left-out curve without any curve of its temperature."""
    groups = np.unique(tasks.X[tasks.offsets[:-1], 1], return_inverse=True)[1]

    def choose(group: int) -> dict[str, Any]:
        kept = [tasks[i] for i in range(len(tasks)) if groups[i] != group]
        model = tuned_network([(t.X, t.y.reshape(-1)) for t in kept], [0, 1, 3], NETWORK_ROWS, None)
        return {"inner_lr": model.inner_lr, "alpha": model.alpha}

    chosen = Parallel(jobs)(delayed(choose)(group) for group in range(groups.max() + 1))
    return [chosen[group] for group in groups]


def _fold(
    tasks: TaskSet, held: list[int], sizes: list[int], repetitions: int, network: dict[str, Any] | None
) -> list[dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    for kind in (CorrelatedResidualsWarning, IdentifiabilityWarning, UnlikelyTaskWarning, OvershootWarning):
        warnings.simplefilter("ignore", kind)
    training = tasks[[i for i in range(len(tasks)) if i not in held]]
    methods = _methods(training, network)
    records = []
    for i in held:
        X = tasks[i].X
        y = tasks[i].y.reshape(-1)
        truth = report_jmak(whole_curve(X, y))
        records += evaluate(methods, X, y, tasks.name_of(i), sizes, repetitions, [i], truth)
    return records


def _methods(training: TaskSet, network: dict[str, Any] | None) -> dict[str, Method]:
    pairs = [(task.X, task.y.reshape(-1)) for task in training]
    methods: dict[str, Method] = {}
    for name, model in fit_equations(training).items():
        methods[name] = _equation(model)
    for name, constants in (("JMAK", ["k", "n"]), ("JMAK, plateau", ["k", "n", "plateau"])):
        methods[f"curve by curve: {name}"] = curve_by_curve(
            jmak, {c: BOUNDS[c] for c in constants}, STARTS, report_jmak
        )
    pooled = JMAKRegressor(parameters=PARAMETERS, random=[]).fit(training)
    one = report_jmak(pooled.population_["value"].to_dict())
    methods["pooled JMAK"] = lambda X, y: Prediction(lambda rows: np.asarray(pooled.predict(rows)), None, one)
    methods["Gaussian process"] = gaussian_process(pairs, [0, 1, 3])
    if network is not None:
        learned = tuned_network(pairs, [0, 1, 3], NETWORK_ROWS, None if network == TUNE else network)

        def adapt(X: NDArray[Any], y: NDArray[Any]) -> Prediction:
            adapted = learned.adapt(X[:, [0, 1, 3]], y)
            return Prediction(lambda rows: np.asarray(adapted.predict(rows[:, [0, 1, 3]])))

        methods["MAML network"] = adapt
    return methods


def _equation(model: KineticRegressor) -> Method:
    def adapt(X: NDArray[Any], y: NDArray[Any]) -> Prediction:
        adapted = model.adapt(X, y)
        values = adapted.params_["value"].to_dict()
        report = report_jmak({str(c): v for c, v in values.items()})
        return Prediction(adapted.predict, adapted.predict_interval, report)

    return adapt


def report_jmak(constants: dict[str, float]) -> dict[str, float]:
    """Return ln k and n of JMAK's equation; nothing for others, in which k and n mean something else."""
    if set(constants) != {"k", "n"}:
        return {}
    return {"ln_k": float(np.log(constants["k"])), "n": constants["n"]}


def whole_curve(X: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    """Return k and n of JMAK's equation fitted to a whole curve."""
    return fit_curve(jmak, {c: BOUNDS[c] for c in ("k", "n")}, STARTS, X, y)
