"""Every estimator takes a mapping of names to (X, y), with the bits of the sequence of these tasks."""

import numpy as np
import pytest

from metaest import EquationRegressor, MAMLClassifier, MAMLPolicy, MAMLRegressor, Task
from metaest.diagnostics import pooled
from metaest_datasets import make_sinusoids
from savable import WAVES, wave

NETWORK = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 0}
SINES = {str(task.name): (task.X, task.y) for task in make_sinusoids(8, n_rows=8, random_state=0)}
LABELS = {name: (X, (y > np.median(y)).astype(int)) for name, (X, y) in SINES.items()}
RETURNS = {name: (X, y / 100) for name, (X, y) in SINES.items()}
CASES = {
    "regressor": (lambda: MAMLRegressor(**NETWORK), SINES),
    "classifier": (lambda: MAMLClassifier(**NETWORK), LABELS),
    "policy": (lambda: MAMLPolicy(**NETWORK, support_size=4, query_size=4), RETURNS),
    "equation": (lambda: EquationRegressor(wave, {"amplitude": 2.0, "phase": 1.5}, random_state=0), None),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mapping_has_the_bits_of_the_sequence(name):
    make, mapping = CASES[name]
    if mapping is None:
        mapping = {str(task.name): (task.X, task.y) for task in WAVES}
    held, mapping = dict(list(mapping.items())[:3]), dict(list(mapping.items())[3:])
    named = [Task(key, X, y) for key, (X, y) in mapping.items()]
    one, other = make().fit(mapping), make().fit(named)
    X = named[0].X
    np.testing.assert_array_equal(one.predict(X), other.predict(X))
    assert one.score(mapping) == other.score(named)
    if hasattr(one, "adapt_many"):
        for from_mapping, from_list in zip(one.adapt_many(mapping), other.adapt_many(named), strict=True):
            np.testing.assert_array_equal(from_mapping.predict(X), from_list.predict(X))
    if hasattr(one, "calibrate"):
        one.calibrate(held, support_size=2)
        other.calibrate([Task(key, X, y) for key, (X, y) in held.items()], support_size=2)
        np.testing.assert_array_equal(one.predict_interval(X, level=0.5)[0], other.predict_interval(X, level=0.5)[0])


def test_a_baseline_takes_a_mapping():
    model = MAMLRegressor(**NETWORK)
    X = SINES["0"][0]
    expected = pooled(model, [Task(name, *pair) for name, pair in SINES.items()]).predict(X)
    np.testing.assert_array_equal(pooled(model, SINES).predict(X), expected)
