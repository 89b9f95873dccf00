"""What a fitted model remembers of the range of its columns."""

import numpy as np
import pytest

from metaest import MAMLRegressor
from metaest.estimators.columns import Columns


class Model:
    pass


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.254, 24.65], (0.25, 25.0)),
        ([-79.61, -0.0123], (-80.0, -0.012)),
        ([0.0, 100.0], (0.0, 100.0)),
        ([1e-310, 123456.0], (1e-310, 130000.0)),
        ([7.0, 7.0], (7.0, 7.0)),
    ],
)
def test_it_is_rounded_outwards(values, expected):
    model = Model()
    Columns(model).remember_range(np.array(values)[:, None])
    np.testing.assert_allclose(model.feature_range_[:, 0], expected, rtol=1e-12)
    assert model.feature_range_[0, 0] <= min(values)
    assert max(values) <= model.feature_range_[1, 0]


def test_integers_and_images():
    model = Model()
    Columns(model).remember_range(np.array([[12345], [3]]))
    assert model.feature_range_.tolist() == [[3.0], [13000.0]]
    Columns(model).remember_range(np.zeros((3, 1, 8, 8)))
    assert not hasattr(model, "feature_range_")


def test_a_fit_remembers_its_own_columns():
    rng = np.random.default_rng(0)
    tasks = [(rng.uniform(-1, 3, (5, 2)), rng.normal(size=5)) for _ in range(4)]
    model = MAMLRegressor(max_iter=2, random_state=0).fit(tasks)
    X = np.concatenate([X for X, _ in tasks])
    assert model.feature_range_.shape == (2, 2)
    assert ((model.feature_range_[0] <= X) & (model.feature_range_[1] >= X)).all()
