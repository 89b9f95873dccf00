"""The study's engine on simulated tasks; the study itself needs data and an hour."""

import numpy as np
import pandas as pd
import pytest

from metaest import TaskSet
from metaest_datasets import make_avrami_tasks
from metaest_domains.kinetics import JMAKRegressor
from metaest_domains.kinetics.study import Prediction, compare, draw_supports, evaluate, study_steel, table_of
from metaest_domains.kinetics.study.next_point import gains_of, study_next_point
from metaest_domains.kinetics.study.rivals import fit_curve, gaussian_process
from metaest_domains.kinetics.study.steel import COMPOSITION


def test_supports_do_not_depend_on_what_else_is_drawn():
    one, two = (list(draw_supports(20, 3, n, [7])) for n in (2, 4))
    np.testing.assert_array_equal(one, two[:2])
    assert all(len(set(rows)) == 3 for rows in two)


def test_errors_are_over_the_rows_not_used():
    X = np.arange(10.0)[:, None]
    y = np.arange(10.0)

    def knows_what_it_saw(rows, seen):
        def curve(new):
            return np.where(np.isin(new[:, 0], rows[:, 0]), new[:, 0], new[:, 0] + 2.0)

        return Prediction(curve, lambda new: (new[:, 0] - 1.0, new[:, 0] + (new[:, 0] < 5)), {"a": 3.0})

    records = pd.DataFrame(evaluate({"off by two": knows_what_it_saw}, X, y, "t", [0, 4], 3, [0], {"a": 2.5, "b": 1.0}))
    assert len(records) == 4
    assert (records["mse"] == 4.0).all()
    assert (records["a"] == 0.5).all()
    assert "b" not in records
    assert (records["covered"] == 1.0).all()
    assert table_of(records).loc["off by two", 4] == 2.0
    assert table_of(records, "covered").loc["off by two", 0] == 1.0


def test_comparisons_are_paired_by_task():
    rng = np.random.default_rng(0)
    rows = []
    for task in range(30):
        size = 10 ** rng.uniform(-2, 2)
        rows += [
            {"method": name, "task": task, "k": 3, "mse": size * factor * rng.uniform(0.9, 1.1)}
            for name, factor in (("ours", 1.0), ("theirs", 4.0), ("same", 1.0))
            for _ in range(2)
        ]
    table = compare(pd.DataFrame(rows), "ours", ["theirs", "same"])
    ratio, lower, upper, ahead = table.loc[("theirs", 3)]
    assert 0.45 < lower < ratio < upper < 0.55
    assert ahead == 1.0
    assert table.loc[("same", 3), "lower"] < 1 < table.loc[("same", 3), "upper"]


def test_rivals_fit():
    rng = np.random.default_rng(0)
    x = np.linspace(0.1, 3, 12)[:, None]
    found = fit_curve(
        lambda X, a, k: a * np.exp(-k * X[:, 0]),
        {"a": (0.1, 10.0), "k": (0.01, 10.0)},
        [{"a": 1.0, "k": 5.0}],
        x,
        2 * np.exp(-0.7 * x[:, 0]),
    )
    assert found == pytest.approx({"a": 2.0, "k": 0.7}, rel=1e-4)
    training = [(x, a * np.sin(x[:, 0]) + 0.01 * rng.standard_normal(12)) for a in (0.9, 1.0, 1.1)]
    predicted = gaussian_process(training, [0])(x[:3], np.sin(x[:3, 0]))
    assert np.abs(predicted.curve(x) - np.sin(x[:, 0])).max() < 0.1
    low, high = predicted.interval(x)
    assert (low < high).all()


@pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning")
def test_what_a_third_point_gains():
    tasks, _ = make_avrami_tasks(6, random_state=0)
    records = study_next_point(tasks, JMAKRegressor(), lambda constants: {"n": constants["n"]}, repetitions=2)
    assert len(records) == 6 * 2 * 3
    table = gains_of(records)
    assert table.index.tolist() == ["two points", "a third at random", "a third as suggested"]
    assert table.columns.tolist() == ["n", "rmse"]
    assert (table.iloc[1:]["rmse"] < table.loc["two points", "rmse"]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::metaest.UnlikelyTaskWarning")
def test_the_steel_study_on_simulated_steels():
    rng = np.random.default_rng(0)
    frames = []
    for i in range(9):
        time = 10 ** rng.uniform(-1, 1, 10)
        T = rng.uniform(500, 900, 10)
        contents = {element: rng.uniform(0.1, 1.0) for element in COMPOSITION}
        hardness = 30 + 20 * contents["C"] - 5 * (T * (20 + np.log10(time)) - 700 * 20) / 1000
        own = pd.DataFrame({"steel": i, "time": time, "temperature": T, **contents})
        frames.append(own.assign(hardness=hardness + 0.5 * rng.standard_normal(10)))
    features = ["time", "temperature", *COMPOSITION]
    tasks = TaskSet.from_frame(pd.concat(frames), task="steel", features=features, target="hardness")
    with np.errstate(all="ignore"):
        table = table_of(study_steel(sizes=[0, 3], repetitions=1, tasks=tasks[:9]))
    assert table.loc["Hollomon-Jaffe", 3] < 0.5 * table.loc["pooled line", 3]
