"""Rival methods for a few measurements: a separate fit, a Gaussian process, a meta-learned network."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from metaest import MAMLRegressor, OvershootWarning
from metaest_domains.kinetics.study.evaluation import Method, Prediction

__all__ = ["curve_by_curve", "fit_curve", "gaussian_process", "tuned_network"]

Curve = Callable[..., NDArray[Any]]
Pairs = list[tuple[NDArray[Any], NDArray[Any]]]

# settings of the network that are compared: every inner rate with every weight decay
NETWORKS = [{"inner_lr": rate, "alpha": alpha} for rate in (0.02, 0.05) for alpha in (3.0, 30.0)]
# rows of each training task that the Gaussian process may see; the better number is chosen
PROCESS_ROWS = (8, 20)
# support rows, and random supports of each task, by which settings are compared
JUDGED_ROWS = 3
JUDGED_TIMES = 5


def fit_curve(
    curve: Curve,
    bounds: dict[str, tuple[float, float]],
    starts: list[dict[str, float]],
    X: NDArray[Any],
    y: NDArray[Any],
) -> dict[str, float]:
    """Fit a curve by least squares within bounds from several starts; return the best constants.

    Parameters
    ----------
    curve : callable
        ``curve(X, **constants)`` returns y.
    bounds : dict of str to (float, float)
        Lower and upper bound of each constant.
    starts : list of dict
        Initial values of the constants.
    X, y : ndarray
        All rows of the task.
    """
    names = list(bounds)
    low, high = np.array(list(bounds.values())).T

    def residual(values: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(curve(X, **dict(zip(names, values, strict=True))) - y)

    best = None
    for start in starts:
        first = np.clip([start[name] for name in names], low * 1.001 + 1e-9, high * 0.999)
        solution = least_squares(residual, first, bounds=(low, high), x_scale=np.abs(first))
        if best is None or solution.cost < best.cost:
            best = solution
    assert best is not None
    return dict(zip(names, best.x.tolist(), strict=True))


def curve_by_curve(
    curve: Curve, bounds: dict[str, tuple[float, float]], starts: list[dict[str, float]], report: Callable[..., Any]
) -> Method:
    """Return a method that fits the support rows of a task and uses no other task."""

    def adapt(X: NDArray[Any], y: NDArray[Any]) -> Prediction:
        constants = fit_curve(curve, bounds, starts, X, y)
        return Prediction(lambda rows: curve(rows, **constants), None, report(constants))

    return adapt


def gaussian_process(training: Pairs, columns: list[int]) -> Method:
    """Return a Gaussian process on some columns, fitted to some rows of every training task.

    The kernel is squared-exponential with a length for each column, chosen by the evidence. The number of rows of each
    task and the scale of the first column, linear or logarithmic, are tuned: each choice is fitted to three quarters of
    the tasks and compared on the others, from three rows. The rows of the new task are added to the training rows.
    """
    choices = [(rows, logged) for rows in PROCESS_ROWS for logged in (False, True)]
    rest = [pair for i, pair in enumerate(training) if i % 4]
    rows, logged = min(choices, key=lambda choice: _judged(_process(rest, columns, *choice), training[::4]))
    return _process(training, columns, rows, logged)


def _process(training: Pairs, columns: list[int], rows: int, logged: bool) -> Method:
    some = [np.linspace(0, len(y) - 1, min(rows, len(y))).astype(int) for _, y in training]
    X = np.concatenate([task_X[chosen] for (task_X, _), chosen in zip(training, some, strict=True)])[:, columns]
    y = np.concatenate([task_y[chosen] for (_, task_y), chosen in zip(training, some, strict=True)])
    center = float(y.mean())
    spread = float(y.std())
    kernel = ConstantKernel() * RBF(np.ones(X.shape[1]), (1e-2, 1e3)) + WhiteKernel(1e-2, (1e-6, 1.0))
    scaler = make_pipeline(FunctionTransformer(_log_first if logged else None), StandardScaler()).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: the column has no effect
        first = GaussianProcessRegressor(kernel, random_state=0).fit(scaler.transform(X), (y - center) / spread)

    def adapt(X_support: NDArray[Any], y_support: NDArray[Any]) -> Prediction:
        both = np.concatenate([X, X_support[:, columns]])
        model = GaussianProcessRegressor(first.kernel_, optimizer=None)
        model.fit(scaler.transform(both), (np.concatenate([y, y_support]) - center) / spread)

        def curve(new: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(center + spread * model.predict(scaler.transform(new[:, columns])))

        def interval(new: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            mean, sd = model.predict(scaler.transform(new[:, columns]), return_std=True)
            return center + spread * (mean - 1.645 * sd), center + spread * (mean + 1.645 * sd)

        return Prediction(curve, interval)

    return adapt


def _judged(method: Method, tasks: Pairs) -> float:
    """Return the mean squared error over tasks, from three random rows of each."""
    error = []
    for i, (X, y) in enumerate(tasks):
        for time in range(JUDGED_TIMES):
            few = np.random.default_rng([i, time]).permutation(len(y))[:JUDGED_ROWS]
            error.append(np.square(method(X[few], y[few]).curve(X) - y).mean())
    return float(np.mean(error))


def _log_first(X: NDArray[Any]) -> NDArray[Any]:
    return np.column_stack([np.log(X[:, 0]), X[:, 1:]])


def tuned_network(training: Pairs, columns: list[int], rows: int, settings: dict[str, Any] | None) -> MAMLRegressor:
    """Return a meta-learned network on all columns of some rows of every training task.

    Without settings, the best of four pairs of inner rate and weight decay is taken: each is trained on three quarters
    of the tasks and compared on the others, from three rows.
    """
    pairs = []
    for X, y in training:
        chosen = np.linspace(0, len(y) - 1, min(rows, len(y))).astype(int)
        pairs.append((X[chosen][:, columns], y[chosen]))
    if settings is None:
        settings = min(NETWORKS, key=lambda choice: _judge(pairs, choice))
    return _network(settings).fit(pairs)


def _network(settings: dict[str, Any]) -> MAMLRegressor:
    return MAMLRegressor(support_size=(2, 8), random_state=0, **settings)


def _judge(pairs: Pairs, settings: dict[str, Any]) -> float:
    model = _network(settings).fit([pair for i, pair in enumerate(pairs) if i % 4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OvershootWarning)
        return _judged(lambda X, y: Prediction(model.adapt(X, y).predict), pairs[::4])
