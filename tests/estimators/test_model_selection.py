"""scikit-learn's own model selection over tasks, checked against scores computed by hand."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from agreement import assert_agree
from metaest import MAMLRegressor, adapt
from metaest.estimators.pipeline import AdaptedPipeline
from problems import ragged_tasks

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 15, "random_state": 0, "split": "first", "support_size": 2}


def by_hand(model, training, held_out):
    """Adapt on the first two rows of every held-out task and take R2 over the others."""
    fitted = clone(model).fit(training)
    residual = spread = 0.0
    for task in held_out:
        n = min(2, len(task) - 1)
        prediction = fitted.adapt(task.X[:n], task.y[:n]).predict(task.X[n:])
        residual += np.square(task.y[n:] - prediction).sum()
        spread += np.square(task.y[n:] - training.y.mean()).sum()
    return 1 - residual / spread


def test_cross_val_score_is_leave_one_task_out(tasks):
    model = MAMLRegressor(**SMALL)
    scores = cross_val_score(model, tasks, cv=LeaveOneOut())
    assert np.isfinite(scores).all()
    expected = [by_hand(model, tasks[np.delete(np.arange(8), i)], tasks[[i]]) for i in range(8)]
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_grid_search_tunes_over_tasks(tasks):
    grid = {"inner_steps": [0, 5], "inner_lr": [0.05]}
    search = GridSearchCV(MAMLRegressor(**SMALL), grid, cv=4).fit(tasks)
    folds = list(KFold(4).split(np.arange(8)))
    for i, settings in enumerate(search.cv_results_["params"]):
        model = MAMLRegressor(**SMALL).set_params(**settings)
        expected = [by_hand(model, tasks[training], tasks[test]) for training, test in folds]
        scores = [search.cv_results_[f"split{k}_test_score"][i] for k in range(4)]
        np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert search.best_params_["inner_steps"] == 5
    expected = search.best_estimator_.adapt(tasks[0].X, tasks[0].y).predict(tasks.X)
    np.testing.assert_array_equal(adapt(search, tasks[0].X, tasks[0].y).predict(tasks.X), expected)


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_a_pipeline_with_groups_inside_cross_validate(tasks):
    groups = tasks.names.repeat(tasks.sizes)
    pipeline = make_pipeline(StandardScaler(), MAMLRegressor(**SMALL))
    result = cross_validate(pipeline, tasks.X, tasks.y, params={"groups": groups}, cv=LeaveOneGroupOut())
    assert np.isfinite(result["test_score"]).all()
    expected = []
    for name in np.unique(groups):
        inside = groups != name
        scaler = StandardScaler().fit(tasks.X[inside])
        model = MAMLRegressor(**SMALL).fit(scaler.transform(tasks.X[inside]), tasks.y[inside], groups[inside])
        X, y = scaler.transform(tasks.X[~inside]), tasks.y[~inside]
        residual = y[2:] - model.adapt(X[:2], y[:2]).predict(X[2:])
        expected.append(1 - np.square(residual).sum() / np.square(y[2:] - tasks.y[inside].mean()).sum())
    np.testing.assert_allclose(result["test_score"], expected, rtol=1e-4)


@pytest.mark.usefixtures("routing")
def test_grid_search_over_a_pipeline_with_groups(tasks):
    groups = tasks.names.repeat(tasks.sizes)
    pipeline = make_pipeline(StandardScaler(), MAMLRegressor(**SMALL))
    search = GridSearchCV(pipeline, {"mamlregressor__inner_steps": [0, 5]}, cv=LeaveOneGroupOut())
    search.fit(tasks.X, tasks.y, groups=groups)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.isfinite(search.score(tasks.X, tasks.y, groups=groups))


@pytest.mark.parametrize("enabled", [False, True])
def test_an_adapted_pipeline_uses_the_fitted_transformers(tasks, enabled):
    groups = tasks.names.repeat(tasks.sizes)
    with sklearn.config_context(enable_metadata_routing=enabled):
        pipeline = make_pipeline(StandardScaler(), MAMLRegressor(**SMALL))
        name = "groups" if enabled else "mamlregressor__groups"
        pipeline.fit(tasks.X, tasks.y, **{name: groups})
        before = pipeline.predict(tasks.X)
        patient = adapt(pipeline, tasks[0].X, tasks[0].y)
        assert isinstance(patient, AdaptedPipeline)
        scaled = pipeline[0].transform(tasks[0].X)
        expected = pipeline[-1].adapt(scaled, tasks[0].y)
        assert_agree(patient.predict(tasks[0].X), expected.predict(scaled))
        assert patient.score(tasks[0].X, tasks[0].y) == pytest.approx(expected.score(scaled, tasks[0].y), rel=1e-5)
        more = patient.partial_adapt(tasks[1].X, tasks[1].y)
        assert len(more[-1].X_support_) == len(tasks[0]) + len(tasks[1])
        np.testing.assert_array_equal(pipeline.predict(tasks.X), before)
        kept = patient.predict(tasks[0].X)
        pipeline.fit(100 * tasks.X + 7, tasks.y, **{name: groups})
        np.testing.assert_array_equal(patient.predict(tasks[0].X), kept)


def test_adapt_without_a_pipeline(model, tasks):
    np.testing.assert_array_equal(
        adapt(model, tasks[0].X, tasks[0].y).predict(tasks.X), model.adapt(tasks[0].X, tasks[0].y).predict(tasks.X)
    )
    with pytest.raises(TypeError, match="StandardScaler has no adapt method"):
        adapt(StandardScaler(), tasks[0].X, tasks[0].y)


def test_nothing_depends_on_the_names_of_tasks():
    one, two = ragged_tasks(), ragged_tasks(names=list("hgfedcba"))
    first, second = (MAMLRegressor(**SMALL).fit(tasks) for tasks in (one, two))
    assert_agree(first.predict(one.X), second.predict(one.X))
    assert first.score(one) == pytest.approx(second.score(two), rel=1e-5)
