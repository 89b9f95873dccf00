"""Few-shot scorers: equal to adapting and measuring by hand, alone and in scikit-learn's model selection."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.metrics import accuracy_score, get_scorer, log_loss, mean_absolute_error, r2_score, root_mean_squared_error
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from metaest import (
    DivergenceError,
    EquationRegressor,
    MAMLClassifier,
    MAMLPolicy,
    MAMLRegressor,
    Parameter,
    Task,
    TaskError,
    TaskSet,
    adapt,
)
from metaest.scorers import (
    few_shot_accuracy,
    few_shot_coverage,
    few_shot_log_loss,
    few_shot_mae,
    few_shot_r2,
    few_shot_rmse,
)
from problems import ragged_tasks

# what single adaptations warn of is not the subject here
pytestmark = pytest.mark.filterwarnings(
    "ignore::metaest.IdentifiabilityWarning", "ignore::metaest.UnlikelyTaskWarning", "ignore::metaest.OvershootWarning"
)
SMALL = {"hidden_layer_sizes": (8,), "max_iter": 10, "random_state": 0}
TASKS = TaskSet([task for task in ragged_tasks(12) if len(task) > 3])
GROUPS = TASKS.names.repeat(TASKS.sizes)


def line(X, a, b, c):
    return a + b * X[:, 0] + c * X[:, 1]


def make(kind):
    if kind == "network":
        return MAMLRegressor(**SMALL)
    constants = {name: Parameter(1.0) for name in "abc"}
    return EquationRegressor(line, constants)


@pytest.fixture(scope="module", params=["network", "equation"])
def fitted(request):
    return make(request.param).fit(TASKS)


def first_rows(model, tasks, shots):
    """Adapt to the first rows of every task and predict its others."""
    truth, prediction = [], []
    for task in tasks:
        predictor = model if shots == 0 else adapt(model, task.X[:shots], task.y[:shots])
        truth.append(task.y[shots:])
        prediction.append(predictor.predict(task.X[shots:]))
    return np.concatenate(truth), np.concatenate(prediction)


@pytest.mark.parametrize("shots", [0, 1, 3])
def test_numbers_equal_those_worked_out_by_hand(fitted, shots):
    truth, prediction = first_rows(fitted, TASKS, shots)
    errors = {few_shot_rmse: root_mean_squared_error, few_shot_mae: mean_absolute_error}
    for make_scorer, error in errors.items():
        assert make_scorer(shots, split="first")(fitted, TASKS) == pytest.approx(-error(truth, prediction), rel=1e-5)
    r2 = 1 - np.square(truth - prediction).sum() / np.square(truth - TASKS.y.mean()).sum()
    assert few_shot_r2(shots, split="first")(fitted, TASKS) == pytest.approx(r2, rel=1e-5)


def test_a_scorer_is_the_models_score_at_its_shots(fitted):
    settings = fitted.get_params()
    changed = {"split": "first", "support_size": 3}
    score = fitted.set_params(**changed).score(TASKS)
    assert few_shot_r2(shots=3)(fitted, TASKS) == pytest.approx(score, rel=1e-5)
    fitted.set_params(**{name: settings[name] for name in changed})


def test_a_model_that_guards_by_default_is_scored_with_its_guard():
    class Guarding(EquationRegressor):
        guard_by_default = True

    model = Guarding(line, {name: Parameter(1.0) for name in "abc"}).fit(TASKS)
    truth, prediction = first_rows(model, TASKS, 3)
    score = few_shot_mae(3, split="first")(model, TASKS)
    assert score == pytest.approx(-mean_absolute_error(truth, prediction), rel=1e-5)
    assert score == pytest.approx(few_shot_mae(3, split="first", guard=True)(model, TASKS), rel=1e-5)
    assert score != pytest.approx(few_shot_mae(3, split="first", guard=False)(model, TASKS), rel=1e-3)


def test_a_support_that_tasks_carry_is_taken(fitted):
    tasks = [Task(task.name, task.X, task.y, support=[1, 3]) for task in TASKS]
    one, many = (few_shot_mae(shots)(fitted, tasks) for shots in (1, 40))
    swapped = [
        Task(task.name, *(np.concatenate([v[[1, 3]], np.delete(v, [1, 3], 0)]) for v in (task.X, task.y)))
        for task in TASKS
    ]
    assert one == many == pytest.approx(few_shot_mae(2, split="first")(fitted, swapped), rel=1e-6)


def test_splits_are_the_same_for_every_model_and_nested(fitted):
    asked = []

    class Recording(MAMLRegressor):
        def adapt_many(self, tasks):
            asked.append([task.X.tolist() for task in tasks])
            return super().adapt_many(tasks)

    model = Recording(**SMALL).fit(TASKS)
    assert few_shot_r2(2)(model, TASKS) == few_shot_r2(2)(model.set_params(inner_lr=0.05), TASKS)
    few_shot_mae(3)(model, TASKS)
    few_shot_mae(3, random_state=1)(model, TASKS)
    assert asked[0] == asked[1]
    assert all(row in more for few, more in zip(asked[0], asked[2], strict=True) for row in few)
    assert asked[2] != asked[3]


@pytest.mark.parametrize("kind", ["network", "equation"])
def test_cross_validate_over_tasks(kind):
    scoring = {"r2": few_shot_r2(3, split="first"), "mae": few_shot_mae(3, split="first"), "one": few_shot_mae(1)}
    result = cross_validate(make(kind), TASKS, cv=KFold(2), scoring=scoring, error_score="raise")
    for i, (training, test) in enumerate(KFold(2).split(TASKS)):
        model = make(kind).fit(TASKS[training])
        truth, prediction = first_rows(model, TASKS[test], 3)
        np.testing.assert_allclose(result["test_mae"][i], -mean_absolute_error(truth, prediction), rtol=1e-4)
        center = TASKS[training].y.mean()
        r2 = 1 - np.square(truth - prediction).sum() / np.square(truth - center).sum()
        np.testing.assert_allclose(result["test_r2"][i], r2, rtol=1e-4)


def test_a_search_refits_what_scores_highest():
    scoring = {"r2": few_shot_r2(2), "rmse": few_shot_rmse(2)}
    search = GridSearchCV(MAMLRegressor(**SMALL), {"inner_steps": [0, 5]}, cv=2, scoring=scoring, refit="rmse")
    search.fit(TASKS)
    assert search.best_params_ == {"inner_steps": 5}
    assert search.score(TASKS) == few_shot_rmse(2)(search, TASKS) == few_shot_rmse(2)(search.best_estimator_, TASKS)
    again = clone(search)
    assert again.scoring["r2"].shots == 2
    assert again.scoring["r2"] is not scoring["r2"]


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
@pytest.mark.parametrize("several", [False, True])
def test_flat_rows_of_a_frame_in_a_pipeline(several):
    frame = pd.DataFrame(TASKS.X, columns=["u", "v"]).assign(site=np.where(np.arange(len(TASKS.X)) % 2, "n", "s"))
    encode = ColumnTransformer([("site", OneHotEncoder(sparse_output=False), ["site"])], remainder=StandardScaler())
    pipeline = make_pipeline(encode, MAMLRegressor(**SMALL))
    order = np.random.default_rng(0).permutation(len(frame))
    frame, y, groups = frame.iloc[order], pd.Series(TASKS.y[order]), GROUPS[order]
    scorer = few_shot_mae(2, split="first")
    result = cross_validate(
        pipeline,
        frame,
        y,
        params={"groups": groups},
        cv=GroupKFold(2),
        scoring={"mae": scorer, "r2": few_shot_r2(2)} if several else scorer,
        return_estimator=True,
        return_indices=True,
        error_score="raise",
    )
    for i, (model, test) in enumerate(zip(result["estimator"], result["indices"]["test"], strict=True)):
        errors = []
        for name in np.unique(groups[test]):
            rows = test[groups[test] == name]
            patient = adapt(model, frame.iloc[rows[:2]], y.iloc[rows[:2]])
            errors.append(np.abs(patient.predict(frame.iloc[rows[2:]]) - y.iloc[rows[2:]]))
        expected = -np.concatenate(errors).mean()
        np.testing.assert_allclose(result["test_mae" if several else "test_score"][i], expected, rtol=1e-5)


@pytest.mark.usefixtures("routing")
def test_groups_may_have_another_name_and_searches_route_them():
    scorer = few_shot_mae(2).set_score_request(groups="patient")
    model = MAMLRegressor(**SMALL).set_fit_request(groups="patient").set_score_request(groups="patient")
    cv = GroupKFold(2).set_split_request(groups="patient")
    named = cross_val_score(model, TASKS.X, TASKS.y, params={"patient": GROUPS}, cv=cv, scoring=scorer)
    plain = cross_val_score(
        MAMLRegressor(**SMALL), TASKS.X, TASKS.y, params={"groups": GROUPS}, cv=GroupKFold(2), scoring=few_shot_mae(2)
    )
    np.testing.assert_array_equal(named, plain)
    assert clone(scorer).get_metadata_routing().score.requests == {"groups": "patient"}
    search = GridSearchCV(MAMLRegressor(**SMALL), {"inner_steps": [0, 5]}, cv=GroupKFold(2), scoring=few_shot_mae(2))
    search.fit(TASKS.X, TASKS.y, groups=GROUPS)
    flat = search.score(TASKS.X, TASKS.y, groups=GROUPS)
    assert flat == pytest.approx(few_shot_mae(2)(search.best_estimator_, TASKS), rel=1e-6)


def test_flat_rows_without_groups_are_not_one_task():
    model = MAMLRegressor(**SMALL).fit(TASKS)
    with pytest.raises(TaskError, match="few_shot_r2: no groups were given.*enable_metadata_routing=True"):
        few_shot_r2(2)(model, TASKS.X, TASKS.y)


def test_a_transformed_target_is_scored_on_the_scale_of_y():
    y = np.exp(TASKS.y / 4)
    model = TransformedTargetRegressor(MAMLRegressor(**SMALL), func=np.log, inverse_func=np.exp)
    model.fit(TASKS.X, y, groups=GROUPS)
    tasks = [Task(task.name, task.X, np.exp(task.y / 4)) for task in TASKS]
    truth, prediction = first_rows(model, tasks, 3)
    score = few_shot_rmse(3, split="first")(FrozenEstimator(model), tasks)
    assert score == pytest.approx(-root_mean_squared_error(truth, prediction), rel=1e-5)
    assert few_shot_r2(3, split="first")(model, tasks) == pytest.approx(r2_score(truth, prediction), rel=1e-5)


def class_tasks(n=8, words=False, shared=True):
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(n):
        X = rng.normal(size=(14, 2))
        y = (X[:, 0] > 0).astype(int)
        y[:6] = [0, 1, 0, 1, 0, 1]
        labels = y + (0 if shared else 10 * i)
        tasks.append(Task(i, X, np.array(["no", "yes"])[y] if words else labels))
    return TaskSet(tasks)


@pytest.mark.parametrize(("words", "shared"), [(True, True), (False, False)])
def test_accuracy_and_log_loss_of_classes(words, shared):
    tasks = class_tasks(words=words, shared=shared)
    model = MAMLClassifier(**SMALL, shared_labels=shared).fit(tasks)
    right, losses = [], []
    for task in tasks:
        label = np.unique(task.y)
        support = np.sort(np.concatenate([np.flatnonzero(task.y == one)[:2] for one in label]))
        query = np.setdiff1d(np.arange(len(task)), support)
        predictor = model.adapt(task.X[support], task.y[support])
        right.append(accuracy_score(task.y[query], predictor.predict(task.X[query])))
        losses.append(log_loss(task.y[query], predictor.predict_proba(task.X[query]), labels=label))
    assert few_shot_accuracy(2, split="first")(model, tasks) == pytest.approx(np.mean(right))
    assert few_shot_log_loss(2, split="first")(model, tasks) == pytest.approx(-np.mean(losses), rel=1e-6)


def test_a_search_over_a_classifier():
    scoring = {"accuracy": few_shot_accuracy(2), "loss": few_shot_log_loss(1)}
    search = GridSearchCV(MAMLClassifier(**SMALL), {"inner_steps": [1]}, cv=2, scoring=scoring, refit="loss")
    search.fit(class_tasks())
    expected = []
    for training, test in KFold(2).split(np.arange(8)):
        fitted = MAMLClassifier(**SMALL, inner_steps=1).fit(class_tasks()[training])
        expected.append(few_shot_accuracy(2)(fitted, class_tasks()[test]))
    np.testing.assert_allclose([search.cv_results_[f"split{k}_test_accuracy"][0] for k in (0, 1)], expected)
    assert search.score(class_tasks()) == few_shot_log_loss(1)(search, class_tasks()) < 0


def test_rows_in_all_or_of_each_class():
    tasks = class_tasks()
    model = MAMLClassifier(**SMALL, shared_labels=True).fit(tasks)
    right = [model.adapt(t.X[:3], t.y[:3]).predict(t.X[3:]) == t.y[3:] for t in tasks]
    assert few_shot_accuracy(3, per_class=False, split="first")(model, tasks) == np.mean(right)
    alone = MAMLClassifier(**SMALL, shared_labels=False).fit(class_tasks(shared=False))
    rare = [Task("rare", np.arange(6.0).reshape(3, 2), [0, 1, 2])]
    with pytest.raises(TaskError, match="task 'rare': class 2 has no support row, so its log loss is infinite"):
        few_shot_log_loss(2, per_class=False, split="first")(alone, rare)


def test_coverage_counts_rows_inside_the_interval():
    model = make("equation").fit(TASKS)
    inside = []
    for task in TASKS:
        low, high = model.adapt(task.X[:3], task.y[:3]).predict_interval(task.X[3:], level=0.6)
        inside.append((low <= task.y[3:]) & (task.y[3:] <= high))
    assert few_shot_coverage(3, level=0.6, split="first")(model, TASKS) == np.concatenate(inside).mean()
    network = MAMLRegressor(**SMALL, support_size=2).fit(TASKS)
    network.calibrate([(task.X + 0.5, task.y) for task in TASKS])
    inside = []
    for task in TASKS:
        low, high = network.adapt(task.X[:2], task.y[:2]).predict_interval(task.X[2:], level=0.5)
        inside.append((low <= task.y[2:]) & (task.y[2:] <= high))
    assert few_shot_coverage(2, level=0.5, split="first")(network, TASKS) == np.concatenate(inside).mean()


def test_values_below_a_limit_are_scored_as_by_the_model():
    def flat(X, a):
        return a + 0.0 * X[:, 0]

    rng = np.random.default_rng(0)
    levels = rng.normal(2.0, 0.5, size=20)
    tasks = [(np.arange(6.0)[:, None], np.maximum(a + 0.1 * rng.normal(size=6), 1.5) - 0.001) for a in levels]
    model = EquationRegressor(flat, {"a": Parameter(2.0)}, limit=1.5, split="first", support_size=3).fit(tasks)
    coded = [(X, np.where(y < 1.5, -9999.0, y)) for X, y in tasks]
    assert few_shot_r2(3)(model, coded) == pytest.approx(model.score(coded), rel=1e-6)
    assert few_shot_coverage(3)(model, coded) == few_shot_coverage(3)(model, tasks) > 0.5


def test_the_guard_is_handed_on(fitted):
    guarded = few_shot_mae(2, guard=True, split="first")(fitted, TASKS)
    errors = [
        np.abs(fitted.adapt(task.X[:2], task.y[:2], guard=True).predict(task.X[2:]) - task.y[2:]) for task in TASKS
    ]
    assert guarded == pytest.approx(-np.concatenate(errors).mean(), rel=1e-6)


@pytest.mark.parametrize(
    ("scorer", "text"),
    [
        (few_shot_r2(shots=3), "few_shot_r2(shots=3)"),
        (few_shot_rmse(2, split="first"), "few_shot_rmse(shots=2, split='first', greater_is_better=False)"),
        (few_shot_coverage(1, level=0.5), "few_shot_coverage(shots=1, level=0.5)"),
        (few_shot_log_loss(1, per_class=False), "few_shot_log_loss(shots=1, per_class=False, greater_is_better=False)"),
    ],
)
def test_scorers_travel_and_say_what_they_are(scorer, text):
    assert repr(scorer) == text
    for copy in (pickle.loads(pickle.dumps(scorer)), clone(scorer)):
        assert repr(copy) == text


@pytest.mark.parametrize(
    ("make_scorer", "message"),
    [
        (lambda: few_shot_r2(-1), "few_shot_r2: shots must be a whole number of at least 0, got -1"),
        (lambda: few_shot_r2(2.0), "shots must be a whole number"),
        (lambda: few_shot_mae(True), "shots must be a whole number"),
        (lambda: few_shot_mae(2, split="last"), "split must be 'random', 'first' or None, got 'last'"),
        (lambda: few_shot_mae(2, random_state=None), "random_state .* every candidate is scored on the same rows"),
        (lambda: few_shot_coverage(2, level=1.0), "level must be a number between 0 and 1"),
    ],
)
def test_bad_settings_are_refused(make_scorer, message):
    with pytest.raises(ValueError, match=message):
        make_scorer()


def test_what_cannot_be_scored_says_why():
    model = MAMLRegressor(**SMALL).fit(TASKS)
    smallest = TASKS.names[np.argmin(TASKS.sizes)]
    with pytest.raises(TaskError, match=f"task {smallest.tolist()!r}: it has 4 rows, and shots=4 leave none"):
        few_shot_r2(4)(model, TASKS)
    with pytest.raises(TaskError, match="task 0: class 'yes' has 5 rows, and shots=9 of each class"):
        few_shot_accuracy(9)(MAMLClassifier(**SMALL).fit(class_tasks(words=True)), class_tasks(words=True))
    with pytest.raises(TypeError, match="MAMLRegressor predicts numbers; few_shot_r2"):
        few_shot_accuracy(2)(model, TASKS)
    with pytest.raises(TypeError, match="MAMLClassifier predicts classes; few_shot_accuracy"):
        few_shot_mae(2)(MAMLClassifier(**SMALL).fit(class_tasks()), class_tasks())
    policy = MAMLPolicy(**SMALL, support_size=2).fit(TASKS)
    with pytest.raises(TypeError, match="MAMLPolicy makes none; leave scoring unset"):
        few_shot_r2(2)(policy, TASKS)
    with pytest.raises(TypeError, match="Ridge has no adapt method"):
        few_shot_r2(2)(Ridge().fit(TASKS.X, TASKS.y), TASKS)
    limited = EquationRegressor(line, {name: Parameter(1.0) for name in "abc"}, limit=0.1)
    wrapped = TransformedTargetRegressor(limited, func=np.exp, inverse_func=np.log)
    with pytest.raises(TypeError, match=r"limit=0\.1 is not on the scale of y"):
        few_shot_r2(2)(wrapped.fit(TASKS.X, TASKS.y / 9, groups=GROUPS), TASKS)


def test_shots_too_large_are_a_warning_with_the_sentence_in_cross_validation():
    with pytest.warns(UserWarning, match="and shots=4 leave none to be scored; lower shots"):
        scores = cross_val_score(MAMLRegressor(**SMALL), TASKS, cv=2, scoring=few_shot_r2(4))
    assert np.isnan(scores).any()


def test_a_divergence_names_the_task():
    model = MAMLRegressor(**SMALL, inner_steps=0).fit(TASKS)
    model._params = {name: torch.full_like(value, np.nan) for name, value in model._params.items()}
    with pytest.raises(DivergenceError, match="task 'task 1'"):
        few_shot_r2(2, guard=False)(model, TASKS)


@pytest.mark.parametrize("form", [list, TaskSet, lambda tasks: [(task.X, task.y) for task in tasks]])
@pytest.mark.parametrize("name", ["r2", "neg_mean_absolute_error"])
def test_a_scorer_by_name_names_the_few_shot_one(fitted, form, name):
    with pytest.raises(TaskError, match=r"before adaptation; use metaest\.scorers\.few_shot_r2\(shots=\.\.\.\)"):
        get_scorer(name)(fitted, form(TASKS), np.zeros(len(TASKS)))


def test_classifiers_and_policies_refuse_tasks_in_predict():
    classifier = MAMLClassifier(**SMALL).fit(class_tasks())
    policy = MAMLPolicy(**SMALL, support_size=2).fit(TASKS)
    for call in (classifier.predict, classifier.predict_proba, policy.predict):
        with pytest.raises(TaskError, match=r"few_shot_accuracy\(shots=\.\.\.\)"):
            call(class_tasks())
    with pytest.raises(TaskError, match=r"adapt\(task\.X, task\.y\)"):
        classifier.adapt(class_tasks()[0], [0])


@pytest.mark.parametrize("form", [list, TaskSet])
def test_a_scaler_before_tasks_says_what_to_write(form):
    pipeline = make_pipeline(StandardScaler(), MAMLRegressor(**SMALL))
    with pytest.raises(TypeError, match=r"pipeline\.fit\(tasks\.X, tasks\.y, <last step>__groups=tasks\.names\.repeat"):
        pipeline.fit(form(TASKS))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipeline.fit(TASKS.X, TASKS.y, mamlregressor__groups=TASKS.names.repeat(TASKS.sizes))


def test_errors_of_huge_targets_do_not_overflow(fitted):
    tasks = [(task.X.copy(), task.y.copy()) for task in TASKS[:4]]
    tasks[0][1][-1] = 1e200
    n = sum(len(y) - 2 for _, y in tasks)
    rmse = few_shot_rmse(2, split="first")(fitted, tasks)
    np.testing.assert_allclose(rmse, -1e200 / np.sqrt(n), rtol=1e-12)
