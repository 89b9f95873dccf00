"""Plots of kinetics draw the computed values, in the axes of the user."""

import numpy as np
import pandas as pd
import pytest

plt = pytest.importorskip("matplotlib.pyplot")

from metaest import TaskSet  # noqa: E402
from metaest_datasets import make_avrami_tasks  # noqa: E402
from metaest_domains.kinetics import (  # noqa: E402
    HollomonJaffeRegressor,
    JMAKArrheniusRegressor,
    JMAKRegressor,
    plot_constants,
    plot_curve,
    plot_errors,
    plot_ttt,
    ttt_curve,
)

pytestmark = [
    pytest.mark.usefixtures("no_window"),
    pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning"),
    pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning"),
]


@pytest.fixture(scope="module")
def alloys():
    tasks, _ = make_avrami_tasks(8, random_state=0)
    model = JMAKRegressor().fit(tasks[:7])
    return model, tasks[7], model.adapt(tasks[7].X[[2, 5]], tasks[7].y[[2, 5]])


@pytest.fixture(scope="module")
def isothermal():
    rng = np.random.default_rng(0)
    frames = []
    for i in range(5):
        log_rate = 0.3 * rng.standard_normal()
        for T in (560.0, 580.0, 600.0):
            k = np.exp(log_rate - 120 / 8.314e-3 * (1 / T - 1 / 590))
            time = np.linspace(0.2, 1.6, 4) / k
            x = 1 - np.exp(-((k * time) ** 2)) + 0.01 * rng.standard_normal(4)
            frames.append(pd.DataFrame({"alloy": i, "temperature": T, "time": time, "x": x}))
    tasks = TaskSet.from_frame(pd.concat(frames), task="alloy", features=["temperature", "time"], target="x")
    return JMAKArrheniusRegressor().fit(tasks).adapt(tasks[0].X[:8], tasks[0].y[:8])


def lines(ax):
    return {line.get_label(): line for line in ax.lines}


def test_a_curve_with_its_points(alloys, ax):
    model, task, adapted = alloys
    rows = np.linspace(2.0, 0.1, 30)[:, None]  # in any order
    assert plot_curve(adapted, rows, model=model, X=task.X, y=task.y, candidates=task.X) is ax
    drawn = lines(ax)
    np.testing.assert_allclose(drawn["adapted curve"].get_ydata(), adapted.predict(rows[::-1]))
    np.testing.assert_array_equal(drawn["points used"].get_xdata(), task.X[[2, 5], 0])
    np.testing.assert_array_equal(drawn["not used"].get_ydata(), task.y.reshape(-1))
    assert drawn["measure next"].get_xdata()[0] == task.X[adapted.suggest(task.X)[0], 0]
    low, high = model.predict_interval(rows, level=0.9)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((low.min(), high.max()))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time", "transformed fraction")


def test_the_axis_is_the_input_that_varies(isothermal, ax):
    rows = pd.DataFrame({"temperature": np.linspace(560.0, 600.0, 20), "time": 3.0})
    plot_curve(isothermal, rows)
    assert ax.get_xlabel() == "temperature (K)"
    np.testing.assert_allclose(lines(ax)["adapted curve"].get_xdata(), rows["temperature"])
    np.testing.assert_allclose(lines(ax)["adapted curve"].get_ydata(), isothermal.predict(rows))
    with pytest.raises(
        ValueError, match="against='filler' is not an input of the equation, whose inputs are time, temperature"
    ):
        plot_curve(isothermal, rows, against="filler", ax=ax)


def test_constants_with_their_errors(alloys, ax):
    model, _, adapted = alloys
    x = pd.Series(np.arange(7.0), name="filler (%)")
    plot_constants(model, "k", x)
    plot_constants([adapted], "k", [9.0], label="new")
    table = model.task_params_
    new = adapted.params_.loc["k"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), table["k"])
    segments = np.array(ax.collections[0].get_segments())
    np.testing.assert_allclose(np.ptp(segments[..., 1], axis=1), 2 * table["k_standard_error"])
    np.testing.assert_allclose(ax.collections[1].get_segments()[0][:, 1], new[["lower_90", "upper_90"]].to_numpy(float))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("filler (%)", "k (1/time)")
    plot_constants(model, "k", x, logarithm=True, ax=ax)
    np.testing.assert_allclose(ax.lines[-1].get_ydata(), np.log(table["k"]))
    for call, message in (
        (lambda: plot_constants(model, "E", x, ax=ax), "no constant 'E'"),
        (lambda: plot_constants([adapted], "E", [1.0], ax=ax), "no constant 'E'"),
        (lambda: plot_constants(model, "k", [1.0], ax=ax), "x has 1 values, but there are 7 tasks"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_diagram_is_the_table(isothermal, ax):
    temperatures = np.array([600.0, 560.0, 580.0])
    plot_ttt(isothermal, temperatures, (0.1, 0.9))
    table = ttt_curve(isothermal, np.sort(temperatures), (0.1, 0.9))
    for fraction, label in ((0.1, "10 %"), (0.9, "90 %")):
        curve = table[table["fraction"] == fraction]
        np.testing.assert_allclose(lines(ax)[label].get_xdata(), curve["time"])
        np.testing.assert_allclose(lines(ax)[label].get_ydata(), curve["temperature"])
    assert ax.get_xscale() == "log"


def test_errors_by_number_of_points(ax):
    errors = pd.DataFrame({2: [0.1, 0.2], 3: [0.05, 0.1]}, index=["ours", "theirs"])
    plot_errors(errors, unit="RMSE in X")
    np.testing.assert_array_equal(lines(ax)["theirs"].get_ydata(), [0.2, 0.1])
    assert ax.get_ylabel() == "RMSE in X"


def test_what_is_no_equation_of_the_catalogue_is_said(alloys, ax):
    with pytest.raises(ValueError, match="adapt of an estimator of metaest_domains.kinetics"):
        plot_curve(HollomonJaffeRegressor(), [[1.0]])
