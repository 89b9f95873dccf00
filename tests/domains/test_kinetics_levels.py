"""Equations of kinetics whose constants vary between laboratories and between batches within them."""

import numpy as np
import pandas as pd
import pytest

from metaest import TaskSet
from metaest_domains.kinetics import JMAKRegressor, NthOrderConversionRegressor

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")


def batches():
    rng, rows, minutes = np.random.default_rng(4), [], np.linspace(5, 60, 10)
    for lab in range(15):
        of_lab = 0.3 * rng.standard_normal()
        for batch in "abc":
            k = 0.04 * np.exp(of_lab + 0.1 * rng.standard_normal())
            y = 1 - np.exp(-((k * minutes) ** 2.0)) + 0.005 * rng.standard_normal(10)
            y = np.clip(y, 0, 1)
            rows.append(pd.DataFrame({"lab": lab, "batch": batch, "time": minutes, "fraction": y}))
    return pd.concat(rows, ignore_index=True)


def test_batches_of_laboratories_have_constants_of_their_own():
    frame = batches()
    tasks = TaskSet.from_frame(frame, task="lab", target="fraction", features=["time"], levels=["batch"])
    model = JMAKRegressor(random=["k"], levels={"batch": ["k"]}).fit(tasks)
    assert model.population_.loc["k", "omega"] == pytest.approx(0.3, rel=0.4)
    assert model.population_.loc["k", "omega_batch"] == pytest.approx(0.1, rel=0.3)
    rows = frame[(frame["lab"] == 0) & (frame["batch"] != "c")].iloc[::5]
    adapted = model.adapt(rows[["time", "batch"]], rows["fraction"])
    curve = frame[(frame["lab"] == 0) & (frame["batch"] == "a")]
    np.testing.assert_allclose(adapted.predict(curve[["time", "batch"]]), curve["fraction"], atol=0.03)
    low, high = adapted.predict_interval(pd.DataFrame({"time": [25.0, 25.0], "batch": ["a", "new"]}))
    assert high[1] - low[1] > high[0] - low[0]


def test_numbered_inputs_are_refused_with_levels():
    X = np.column_stack([np.tile(np.linspace(1, 10, 5), 4), np.repeat([0.0, 1.0], 10)])
    y, groups = 1 - np.exp(-0.2 * X[:, 0]), np.tile(np.repeat([0, 1], 5), 2)
    with pytest.raises(ValueError, match="inputs are named, and not numbered"):
        JMAKRegressor(columns={"time": 0}, levels={1: ["k"]}).fit(X, y, groups=groups)


def test_runs_along_histories_have_their_own_constants_within_a_laboratory():
    rng = np.random.default_rng(1)
    time = np.linspace(0.0, 3000.0, 200)
    histories = {1: (time, 500 + 0.1 * time), 2: (time, 500 + 0.05 * time)}
    model = NthOrderConversionRegressor(histories=histories, fixed={"reference": 640.0, "order": 1.0})
    X, y, groups = [], [], []
    for lab in range(10):
        of_lab = 0.2 * rng.standard_normal()
        for run in (1, 2):
            k = np.exp(-5.5 + of_lab + 0.1 * rng.standard_normal())
            T = histories[run][1]
            rate = k * np.exp(-180 / 8.314462618e-3 * (1 / T - 1 / 640))
            theta = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(time))])
            at = np.linspace(100, 199, 8).astype(int)
            X.append(np.column_stack([time[at], np.full(8, run), np.full(8, run)]))
            y.append(1 - np.exp(-theta[at]) + 0.01 * rng.standard_normal(8))
            groups += [lab] * 8
    tasks = TaskSet.from_arrays(np.concatenate(X), np.concatenate(y), groups, feature_names=("time", "history", "run"))
    model.set_params(random=["k_ref"], levels={"run": ["k_ref"]}, covariance="diagonal").fit(tasks)
    omega = model.population_.loc["k_ref", ["omega", "omega_run"]].astype(float)
    assert 0.1 < omega["omega"] < 0.35
    assert 0.05 < omega["omega_run"] < 0.2
    assert model.population_.loc["E", "value"] == pytest.approx(180, rel=0.03)
