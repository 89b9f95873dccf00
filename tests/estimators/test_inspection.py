"""scikit-learn's inspection tools on adapted predictors: what they ask of a fitted model."""

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import DecisionBoundaryDisplay, PartialDependenceDisplay, permutation_importance
from sklearn.metrics import PredictionErrorDisplay, RocCurveDisplay, mean_absolute_error, r2_score

from metaest import EquationRegressor, MAMLClassifier, MAMLPolicy, MAMLRegressor, Parameter
from problems import ragged_tasks

mpl.use("agg")
TASKS = ragged_tasks()
X, Y = TASKS[7].X, TASKS[7].y


def plane(X, a, b, c):
    return a + b * X[:, 0] + c * X[:, 1]


@pytest.fixture(scope="module", params=["network", "equation"])
def adapted(request):
    if request.param == "network":
        model = MAMLRegressor(hidden_layer_sizes=(8,), max_iter=10, random_state=0)
    else:
        model = EquationRegressor(plane, {"a": Parameter(3.0), "b": Parameter(1.0), "c": Parameter(1.0)})
    return model.fit(TASKS).adapt(X[:4], Y[:4])


def test_permutation_importance_is_the_loss_of_the_score(adapted):
    result = permutation_importance(
        adapted, X, Y, scoring=["r2", "neg_mean_absolute_error"], n_repeats=2, random_state=0
    )
    rng = np.random.RandomState(np.random.RandomState(0).randint(np.iinfo(np.int32).max + 1))
    shuffled, order = X.copy(), np.arange(len(X))
    rng.shuffle(order)
    shuffled[:, 1] = shuffled[order, 1]
    for name, score in (("r2", r2_score), ("neg_mean_absolute_error", lambda a, b: -mean_absolute_error(a, b))):
        loss = score(Y, adapted.predict(X)) - score(Y, adapted.predict(shuffled))
        assert np.isclose(result[name].importances[1], loss).any()


def test_displays_draw_an_adapted_regressor(adapted):
    drawn = PartialDependenceDisplay.from_estimator(adapted, X, [0], grid_resolution=5)
    grid = drawn.pd_results[0]["grid_values"][0]
    expected = [adapted.predict(np.column_stack([np.full(len(X), x), X[:, 1]])).mean() for x in grid]
    np.testing.assert_allclose(drawn.pd_results[0]["average"][0], expected, rtol=1e-5)
    PredictionErrorDisplay.from_estimator(FrozenEstimator(adapted), X, Y)


def test_an_adapted_classifier_and_a_policy():
    rng = np.random.default_rng(0)
    tasks = [(rows, (rows[:, 0] > 0).astype(int)) for rows in rng.normal(size=(6, 20, 2))]
    model = MAMLClassifier(hidden_layer_sizes=(8,), max_iter=20, random_state=0).fit(tasks)
    rows, labels = tasks[0]
    classifier = model.adapt(rows[:8], labels[:8])
    scoring = ["accuracy", "neg_log_loss", "roc_auc"]
    result = permutation_importance(classifier, rows, labels, scoring=scoring, random_state=0)
    assert result["accuracy"].importances_mean[0] > result["accuracy"].importances_mean[1]
    DecisionBoundaryDisplay.from_estimator(classifier, rows, grid_resolution=5)
    RocCurveDisplay.from_estimator(classifier, rows, labels)
    policy = MAMLPolicy(hidden_layer_sizes=(4,), support_size=1, max_iter=5, random_state=0).fit(TASKS)
    result = permutation_importance(policy.adapt(X[:4], Y[:4]), X, Y, random_state=0)
    assert result.importances.shape == (2, 5)
