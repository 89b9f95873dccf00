"""A network sees standardised columns: y and every column multiplied by a power of two change nothing but units."""

import numpy as np
import pytest

from metaest import MAMLRegressor, TaskSet
from metaest_datasets import make_sinusoids

pytestmark = pytest.mark.filterwarnings("ignore")
TASKS = make_sinusoids(24, 8, noise=0.1, random_state=0)
# a column that is the same in all rows
TASKS = TaskSet([(np.column_stack([task.X, np.full(8, 3.0)]), task.y) for task in TASKS])


def answers(unit, columns, **settings):
    tasks = TaskSet([(task.X * columns, task.y * unit) for task in TASKS])
    model = MAMLRegressor(max_iter=40, hidden_layer_sizes=(16,), random_state=0, **settings).fit(tasks[:18])
    model.calibrate(tasks[18:23], support_size=4)
    X, y = tasks[23].X, tasks[23].y
    adapted = model.adapt(X[:4], y[:4], guard=True)
    changed = X + np.array([0.0, columns[1]])
    return {
        "zero-shot": model.predict(X) / unit,
        "adapted": adapted.predict(X) / unit,
        "changed": adapted.predict(changed) / unit,
        "conformal": np.stack(model.predict_interval(X, 0.5)) / unit,
        "score": model.score(tasks[18:]),
        "share": adapted.guard_.share,
    }


@pytest.mark.parametrize(
    "settings",
    [{}, {"inner_solver": "ridge"}, {"normalization": "layer", "dtype": "float64"}],
    ids=["gradient", "ridge", "layer"],
)
def test_units(settings):
    expected = answers(1.0, [1.0, 1.0], **settings)
    for unit, columns in ((2.0**-40, [2.0**40, 2.0**-20]), (2.0**40, [2.0**-40, 2.0**40])):
        got = answers(unit, columns, **settings)
        for what, values in expected.items():
            size = np.abs(values).max()
            np.testing.assert_allclose(got[what], values, rtol=1e-6, atol=1e-6 * size, err_msg=what)


def test_targets_that_are_all_the_same_have_their_size_for_a_unit():
    """Where nothing varies, the only scale is that of the number itself."""
    expected, got = (
        MAMLRegressor(max_iter=20, hidden_layer_sizes=(8,), random_state=0)
        .fit(TaskSet([(task.X, np.full(8, 3.0 * unit)) for task in TASKS]))
        .predict(TASKS[0].X)
        / unit
        for unit in (1.0, 2.0**-40)
    )
    np.testing.assert_allclose(got, expected, rtol=1e-6)
