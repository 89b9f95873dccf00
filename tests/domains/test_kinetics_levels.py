"""Equations of kinetics whose constants vary between laboratories and between batches within them."""

import numpy as np
import pandas as pd
import pytest

from metaest import TaskSet
from metaest_domains.kinetics import JMAKRegressor

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
