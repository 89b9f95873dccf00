import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.model_selection import cross_val_score

from metaest import FewShotRegressor, MAMLRegressor, UngroupedWarning
from problems import ragged_tasks


def test_fit_adapts(model, tasks):
    task = tasks[7]
    patient = FewShotRegressor(model).fit(task.X, task.y)
    adapted = model.adapt(task.X, task.y)
    np.testing.assert_array_equal(patient.predict(task.X), adapted.predict(task.X))
    assert patient.score(task.X, task.y) == adapted.score(task.X, task.y)
    assert isinstance(patient.model_, FrozenEstimator)


@pytest.mark.parametrize("wrap", [lambda m: m, FrozenEstimator])
def test_clone_keeps_the_model_fitted(wrap, model, tasks):
    task = tasks[7]
    patient = clone(FewShotRegressor(wrap(model)))
    expected = model.adapt(task.X, task.y).predict(task.X)
    np.testing.assert_array_equal(patient.fit(task.X, task.y).predict(task.X), expected)
    np.testing.assert_array_equal(clone(patient).fit(task.X, task.y).predict(task.X), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(patient)).predict(task.X), expected)


def test_the_ecosystem_of_plain_regressors(model, tasks):
    task = tasks[7]
    scores = cross_val_score(FewShotRegressor(model), task.X, task.y, cv=3)
    assert np.isfinite(scores).all()
    patient = FewShotRegressor(model).fit(task.X, task.y)
    importance = permutation_importance(patient, task.X, task.y, n_repeats=3, random_state=0)
    assert importance.importances_mean.shape == (2,)


def test_an_unfitted_model_is_fitted_on_the_rows_alone_and_says_so():
    task = ragged_tasks()[7]
    unfitted = MAMLRegressor(hidden_layer_sizes=(4,), max_iter=5, random_state=0)
    with pytest.warns(UngroupedWarning, match="meta-model is not fitted"):
        FewShotRegressor(unfitted).fit(task.X, task.y)
    assert not hasattr(unfitted, "module_")
