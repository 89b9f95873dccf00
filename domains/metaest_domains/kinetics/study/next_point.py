"""What a suggested next measurement gains over a random one, on the left-out polymer curves."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from metaest import IdentifiabilityWarning, TaskSet, UnlikelyTaskWarning
from metaest_domains.kinetics.jmak import JMAKRegressor
from metaest_domains.kinetics.study.evaluation import draw_supports
from metaest_domains.kinetics.study.polymer import BOUNDS, PARAMETERS, STARTS, jmak, load_curves
from metaest_domains.kinetics.study.rivals import fit_curve

__all__ = ["study_next_point"]

CANDIDATES = 30


def study_next_point(*, repetitions: int = 5, jobs: int = 1) -> pd.DataFrame:
    """Adapt to two random points of each left-out curve, then add a third: a random one, or the suggested one.

    Returns
    -------
    DataFrame
        One row a plan, curve and repetition: errors of ``ln_k`` and ``n`` against the fit to the whole curve, and
        ``mse`` over the rest of the curve.
    """
    tasks = load_curves()
    records = Parallel(jobs)(delayed(_fold)(tasks, i, repetitions) for i in range(len(tasks)))
    return pd.DataFrame([record for fold in records for record in fold])


def _fold(tasks: TaskSet, held: int, repetitions: int) -> list[dict[str, Any]]:
    import torch

    torch.set_num_threads(1)
    for kind in (IdentifiabilityWarning, UnlikelyTaskWarning):
        warnings.simplefilter("ignore", kind)
    model = JMAKRegressor(parameters=PARAMETERS).fit(tasks[[i for i in range(len(tasks)) if i != held]])
    X, y = tasks[held].X, tasks[held].y.reshape(-1)
    whole = fit_curve(jmak, {c: BOUNDS[c] for c in ("k", "n")}, STARTS, X, y)
    candidates = np.linspace(0, len(y) - 1, CANDIDATES).astype(int)
    records = []
    for repetition, rows in enumerate(draw_supports(len(y), 2, repetitions, [held])):
        first = model.adapt(X[rows], y[rows])
        rng = np.random.default_rng([held, repetition])
        plans = {
            "two points": rows,
            "a third at random": np.append(rows, rng.choice(candidates)),
            "a third as suggested": np.append(rows, candidates[first.suggest(X[candidates])[0]]),
        }
        for plan, chosen in plans.items():
            adapted = model.adapt(X[chosen], y[chosen])
            value = adapted.params_["value"]
            rest = np.setdiff1d(np.arange(len(y)), chosen)
            records.append(
                {
                    "plan": plan,
                    "task": held,
                    "ln_k": abs(float(np.log(value["k"] / whole["k"]))),
                    "n": abs(float(value["n"]) - whole["n"]),
                    "mse": float(np.square(adapted.predict(X[rest]) - y[rest]).mean()),
                }
            )
    return records
