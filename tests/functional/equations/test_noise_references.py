"""Likelihoods of NONMEM and of Wang's ten subjects for the kinds of noise, with nothing fitted.

The files are not part of this repository; METAEST_DATA_HOME names a folder that holds them.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from metaest.functional import (
    Equation,
    GaussNewton,
    HierarchicalModel,
    Noise,
    Observations,
    PopulationParameters,
    negative_log_evidence,
)
from metaest.functional.equations.hierarchical import Design, Point
from metaest.functional.equations.transforms import Transforms

HOME = Path(os.environ.get("METAEST_DATA_HOME", "nowhere"))
LOG_2PI = np.log(2 * np.pi)


def file_of(folder, name, **options):
    path = HOME / folder / name
    if not path.is_file():
        pytest.skip(f"METAEST_DATA_HOME holds no {folder}/{name}")
    return pd.read_csv(path, **options)


def rows_of(table, subject, time, target):
    groups = [group for _, group in table.groupby(subject)]
    X, y = (torch.from_numpy(np.stack([g[c].to_numpy(float) for g in groups])) for c in (time, target))
    return Observations.stack(X[..., None], y, torch.ones_like(y))


def solved(equation, names, noise, population, rows):
    """Return model, population, design and the most probable deviations, for constants above zero."""
    p, tasks = len(names), rows.y.shape[1]
    model = HierarchicalModel(Equation(equation, names, "rows"), Transforms([0.0] * p, [np.inf] * p), noise)
    population = PopulationParameters(*(torch.as_tensor(np.array(part), dtype=torch.float64) for part in population))
    design = Design(torch.arange(p), torch.ones(p, tasks, dtype=torch.float64))
    u = GaussNewton(tol=1e-12).solve(model, *Point.of(population, design), rows).u
    return model, population, design, rows, u


# FOCEI, without N log 2 pi; Y. Wang (2007, doi:10.1007/s10928-007-9060-6) has the first three, the last is of a sum of
# standard deviations, checked with a second program
@pytest.mark.parametrize(
    ("kind", "expected"),
    [("additive", -2.059), ("proportional", 39.458), ("combined", 39.735), ("combined1", 43.554)],
)
def test_ten_subjects_have_the_objective_of_focei(kind, expected):
    rows = rows_of(file_of("nlmixr2data", "Wang2007.csv"), "ID", "Time", "Y")
    noise = Noise(kind)
    population = [np.log(0.5)], [[0.2]], [0.5 * np.log(0.1)] * noise.n_constants
    given = solved(lambda X, k: 10 * torch.exp(-k * X[:, 0]), ("k",), noise, population, rows)
    objective = 2 * float(negative_log_evidence(*given).sum()) - rows.y.numel() * LOG_2PI
    assert objective == pytest.approx(expected, abs=6e-4)


def two_compartments(X, clearance, central, between, peripheral):
    k, out, back = clearance / central, between / central, between / peripheral
    total = k + out + back
    root = torch.sqrt(total.square() - 4 * k * back)
    fast, slow = (total + root) / 2, (total - root) / 2
    t = X[:, 0]
    parts = (fast - back) * torch.exp(-fast * t) + (back - slow) * torch.exp(-slow * t)
    return 100 / central * parts / (fast - slow)


def test_logarithms_below_a_limit_have_the_objective_of_nonmem():
    # R. J. Bauer (2019, doi:10.1002/psp4.12422), ad3tr4_loqb: log y = log f + 0.29 e, a fifth of the rows below a limit
    table = file_of("nonmem_bauer2019", "ad3tr4_loqb.csv", skiprows=1)
    estimates = file_of("nonmem_bauer2019", "estimates.csv")
    estimates = estimates[estimates.iloc[:, 1] == "ad3tr4_loqb_lap"]
    value = dict(zip(estimates.iloc[:, 3], estimates.iloc[:, 4], strict=True))
    omega = np.array([[value[f"OMEGA({max(i, j)},{min(i, j)})"] for j in range(1, 5)] for i in range(1, 5)])
    beta = [value[f"THETA{i}"] for i in range(1, 5)]
    limit = float(np.exp(-3.5))
    table = table[table.EVID == 0].assign(y=lambda t: np.exp(t.LOGC).clip(lower=np.nextafter(limit, 0)))
    rows = rows_of(table, "ID", "TIME", "y")
    names = ("clearance", "central", "between", "peripheral")
    population = beta, np.linalg.cholesky(omega), [np.log(value["THETA5"])]
    model, population, design, _, u = solved(two_compartments, names, Noise("lognormal", limit=limit), population, rows)
    # with the true second derivative, as NONMEM's Laplace, and as the density of log y
    at = model.posterior_at(*Point.of(population, design), rows, u)
    seen = rows.y[rows.y >= limit]
    determinants = torch.linalg.slogdet(at.matrix.permute(2, 0, 1)).logabsdet
    objective = 2 * at.loss.sum() + determinants.sum() - 2 * seen.log().sum() - len(seen) * LOG_2PI
    assert float(objective) == pytest.approx(value["OBJ"], abs=0.3)
