"""A target on another scale: adapting a TransformedTargetRegressor equals adapting on that scale and back."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import is_regressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler

from metaest import ConformalInterval, EquationRegressor, MAMLRegressor, Parameter, TaskError, TaskSet, adapt
from problems import ragged_tasks

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 20, "random_state": 0}
TASKS = ragged_tasks()
Y = np.exp(TASKS.y / 4)
GROUPS = TASKS.names.repeat(TASKS.sizes)
SUPPORT, QUERY = slice(0, 4), slice(4, None)
X_NEW, Y_NEW = TASKS[7].X, np.exp(TASKS[7].y / 4)


def in_logarithms(**settings):
    return TransformedTargetRegressor(MAMLRegressor(**SMALL, **settings), func=np.log, inverse_func=np.exp)


@pytest.fixture(scope="module")
def plain():
    return MAMLRegressor(**SMALL).fit(TASKS.X, np.log(Y), groups=GROUPS)


@pytest.fixture(scope="module")
def wrapped():
    return in_logarithms().fit(TASKS.X, Y, groups=GROUPS)


def by_hand(plain, X=TASKS.X):
    return np.exp(plain.adapt(X_NEW[SUPPORT], np.log(Y_NEW[SUPPORT])).predict(X))


def test_predictions_are_on_the_scale_of_y(plain, wrapped):
    patient = adapt(wrapped, X_NEW[SUPPORT], Y_NEW[SUPPORT])
    np.testing.assert_allclose(patient.predict(TASKS.X), by_hand(plain), rtol=1e-6)
    residual = np.square(Y_NEW - patient.predict(X_NEW)).sum()
    assert patient.score(X_NEW, Y_NEW) == pytest.approx(1 - residual / np.square(Y_NEW - Y_NEW.mean()).sum())
    more = patient.partial_adapt(X_NEW[QUERY], Y_NEW[QUERY])
    np.testing.assert_allclose(more.predict(X_NEW), np.exp(plain.adapt(X_NEW, np.log(Y_NEW)).predict(X_NEW)), rtol=1e-6)
    again = pickle.loads(pickle.dumps(patient))
    np.testing.assert_array_equal(again.predict(X_NEW), patient.predict(X_NEW))
    assert is_regressor(patient)


def test_an_adapted_predictor_does_not_follow_the_model():
    model = in_logarithms().fit(TASKS.X, Y, groups=GROUPS)
    patient = adapt(model, X_NEW[SUPPORT], Y_NEW[SUPPORT])
    before = patient.predict(X_NEW)
    model.fit(TASKS.X + 3, Y * 50, groups=GROUPS)
    np.testing.assert_array_equal(patient.predict(X_NEW), before)
    for refitted in (
        patient,
        adapt(
            make_pipeline(StandardScaler(), in_logarithms()).fit(TASKS.X, Y, transformedtargetregressor__groups=GROUPS),
            X_NEW,
            Y_NEW,
        ),
    ):
        with pytest.raises(TypeError, match="is not fitted again"):
            refitted.fit(X_NEW, Y_NEW)


def test_pipelines_inside_and_outside_and_frozen(plain):
    scaler = StandardScaler().fit(TASKS.X)
    scaled = MAMLRegressor(**SMALL).fit(scaler.transform(TASKS.X), np.log(Y), groups=GROUPS)
    by_hand = scaled.adapt(scaler.transform(X_NEW[SUPPORT]), np.log(Y_NEW[SUPPORT]))
    expected = np.exp(by_hand.predict(scaler.transform(X_NEW)))
    outside = make_pipeline(StandardScaler(), in_logarithms())
    outside.fit(TASKS.X, Y, transformedtargetregressor__groups=GROUPS)
    inside = TransformedTargetRegressor(
        make_pipeline(StandardScaler(), MAMLRegressor(**SMALL)), func=np.log, inverse_func=np.exp
    ).fit(TASKS.X, Y, mamlregressor__groups=GROUPS)
    for model in (outside, inside, FrozenEstimator(inside)):
        patient = adapt(model, X_NEW[SUPPORT], Y_NEW[SUPPORT])
        np.testing.assert_allclose(patient.predict(X_NEW), expected, rtol=1e-5)
        assert patient.partial_adapt(X_NEW[QUERY], Y_NEW[QUERY]).predict(X_NEW).shape == Y_NEW.shape


@pytest.mark.parametrize("around", ["search", "target"])
def test_searches_inside_and_outside(around):
    with sklearn.config_context(enable_metadata_routing=True):
        folds = {"cv": GroupKFold(2), "scoring": "neg_mean_absolute_error"}
        if around == "search":
            model = GridSearchCV(in_logarithms(), {"regressor__inner_steps": [1, 3]}, **folds)
        else:
            inner = GridSearchCV(MAMLRegressor(**SMALL), {"inner_steps": [1, 3]}, **folds)
            model = TransformedTargetRegressor(inner, func=np.log, inverse_func=np.exp)
        model.fit(TASKS.X, Y, groups=GROUPS)
        best = model.best_estimator_.regressor_ if around == "search" else model.regressor_.best_estimator_
        patient = adapt(model, X_NEW[SUPPORT], Y_NEW[SUPPORT])
        np.testing.assert_allclose(patient.predict(TASKS.X), by_hand(best), rtol=1e-6)


@pytest.mark.parametrize("columns", [1, 2])
def test_a_transformer_and_targets_of_two_dimensions(columns):
    y = np.stack([Y, Y**2], axis=1)[:, :columns]
    model = TransformedTargetRegressor(MAMLRegressor(**SMALL), transformer=PowerTransformer())
    model.fit(TASKS.X, y, groups=GROUPS)
    power = PowerTransformer().fit(y)
    plain = MAMLRegressor(**SMALL).fit(TASKS.X, power.transform(y), groups=GROUPS)
    expected = plain.adapt(TASKS.X[:4], power.transform(y[:4])).predict(TASKS.X)
    patient = adapt(model, TASKS.X[:4], y[:4])
    np.testing.assert_allclose(patient.predict(TASKS.X), power.inverse_transform(expected), rtol=1e-5)


def constant_and_slope(X, a, b):
    return a + b * X[:, 0]


@pytest.mark.parametrize("sign", [1, -1])
def test_the_ends_of_an_interval_pass_through_a_monotone_transformation(sign):
    def forth(y):
        return sign * np.log(y)

    def back(z):
        return np.exp(sign * z)

    equation = EquationRegressor(constant_and_slope, {"a": Parameter(0.0), "b": Parameter(1.0)})
    model = TransformedTargetRegressor(equation, func=forth, inverse_func=back)
    model.fit(TASKS.X, Y, groups=GROUPS)
    patient = adapt(model, X_NEW[SUPPORT], Y_NEW[SUPPORT])
    ends = model.regressor_.adapt(X_NEW[SUPPORT], forth(Y_NEW[SUPPORT])).predict_interval(X_NEW, level=0.5)
    lower, upper = patient.predict_interval(X_NEW, level=0.5)
    np.testing.assert_allclose((lower, upper), np.sort(back(np.stack(ends)), axis=0), rtol=1e-6)
    with pytest.raises(ValueError, match="standard deviation does not pass"):
        patient.predict(X_NEW, return_std=True)


def test_conformal_intervals_keep_their_level():
    held_out = ragged_tasks(seed=5, names=[f"new {i}" for i in range(8)])
    wrapped = in_logarithms(support_size=2).fit(TASKS.X, Y, groups=GROUPS)
    logarithms = [(task.X, task.y / 4) for task in held_out if len(task) > 3]
    wrapped.regressor_.calibrate(logarithms)
    patient = adapt(wrapped, X_NEW[:2], Y_NEW[:2])
    interval = patient.predict_interval(X_NEW, level=0.6)
    expected = np.exp(wrapped.regressor_.adapt(X_NEW[:2], np.log(Y_NEW[:2])).predict_interval(X_NEW, level=0.6))
    assert isinstance(interval, ConformalInterval)
    np.testing.assert_allclose(interval, expected, rtol=1e-5)


def test_bad_targets_name_the_row(wrapped):
    y = Y_NEW[SUPPORT].copy()
    y[2] = -1.5
    with pytest.raises(TaskError, match=r"adapt: y is -1.5 in row 2, which the transformation .* turns into \[nan\]"):
        adapt(wrapped, X_NEW[SUPPORT], y)
    y[2] = np.nan
    with pytest.raises(TaskError, match="adapt: column 0 of y holds NaN in row 2"):
        adapt(wrapped, X_NEW[SUPPORT], y)
    with pytest.raises(TaskError, match="X has 4 rows and y has 3"):
        adapt(wrapped, X_NEW[SUPPORT], y[:3])
    with pytest.raises(NotFittedError):
        adapt(in_logarithms(), X_NEW[SUPPORT], y)
    with pytest.raises(TypeError, match="Ridge|LinearRegression has no adapt method"):
        adapt(TransformedTargetRegressor().fit(TASKS.X, Y), X_NEW, Y_NEW)


def test_a_search_without_a_model_says_so():
    search = GridSearchCV(MAMLRegressor(**SMALL), {"inner_steps": [1]}, cv=2, refit=False)
    with pytest.raises(NotFittedError):
        adapt(search, X_NEW, Y_NEW)
    with pytest.raises(TypeError, match="refit=False, so that it holds no fitted model"):
        adapt(search.fit(TaskSet(TASKS)), X_NEW, Y_NEW)


def test_permutation_importance_of_a_transformed_target(wrapped):
    patient = adapt(wrapped, X_NEW[SUPPORT], Y_NEW[SUPPORT])
    result = permutation_importance(patient, X_NEW, Y_NEW, scoring="r2", n_repeats=2, random_state=0)
    assert np.isfinite(result.importances).all()
