"""What users rely on: fit, adapt, predict, score, and that nothing moves behind their back."""

import copy
import pickle
import threading
from dataclasses import FrozenInstanceError

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score

from agreement import assert_agree, assert_same_in_threads
from metaest import AdaptedRegressor, MAMLRegressor, OvershootWarning, Task, TaskSet
from problems import ragged_tasks

SMALL = {"hidden_layer_sizes": (8,), "max_iter": 40, "random_state": 0}


def fitted(tasks=None, **settings):
    return MAMLRegressor(**{**SMALL, **settings}).fit(ragged_tasks() if tasks is None else tasks)


def same_weights(one, other):
    return all(torch.equal(one._params[name], other._params[name]) for name in one._params)


def test_every_form_of_input_gives_the_same_bits(tasks):
    groups = tasks.names.repeat(tasks.sizes)
    base = fitted(tasks)
    assert same_weights(base, fitted(list(tasks)))
    as_array = np.empty(len(tasks), dtype=object)
    as_array[:] = list(tasks)
    assert same_weights(base, fitted(as_array))
    assert same_weights(base, fitted([(task.X, task.y) for task in tasks]))
    assert same_weights(base, MAMLRegressor(**SMALL).fit(tasks.X, tasks.y, groups=groups))
    assert same_weights(base, MAMLRegressor(**SMALL).fit(tasks.X.tolist(), tasks.y.tolist(), groups.tolist()))


def test_same_seed_same_bits_other_seed_other_bits():
    assert same_weights(fitted(), fitted())
    assert not same_weights(fitted(), fitted(random_state=1))
    state = np.random.RandomState(3)
    assert not same_weights(fitted(random_state=state), fitted(random_state=state))


def test_fitting_leaves_global_generators_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = torch.rand(1), np.random.rand()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    fitted(module=lambda d, t: torch.nn.Linear(d, t))
    assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002


def test_adapt_returns_a_new_predictor_and_leaves_the_model(model, tasks):
    X_new = np.random.default_rng(0).standard_normal((5, 2))
    before = model.predict(X_new)
    adapted = model.adapt(tasks[3].X, tasks[3].y)
    assert isinstance(adapted, AdaptedRegressor)
    assert is_regressor(adapted)
    with pytest.raises(TypeError, match="is not fitted again; adapt the model"):
        adapted.fit(tasks[3].X, tasks[3].y)
    assert not np.allclose(adapted.predict(X_new), before)
    np.testing.assert_array_equal(model.predict(X_new), before)


def test_adapting_lowers_the_error_on_the_support(tasks):
    model = fitted(tasks, max_iter=200)
    for task in tasks:
        zero_shot = np.square(model.predict(task.X) - task.y).mean()
        assert np.square(model.adapt(task.X, task.y).predict(task.X) - task.y).mean() < zero_shot


def test_an_adapted_predictor_cannot_be_changed(model, tasks):
    adapted = model.adapt(tasks[0].X, tasks[0].y)
    with pytest.raises(FrozenInstanceError):
        adapted.X_support_ = None
    with pytest.raises(ValueError, match="read-only"):
        adapted.y_support_[0] = 1.0
    with torch.no_grad():
        adapted.module_.layers[0].weight.zero_()
    assert not torch.equal(adapted.module_.layers[0].weight, torch.zeros(8, 2))


def test_inputs_are_never_changed_nor_kept(model):
    X, y = np.ones((3, 2)), np.arange(3.0)
    adapted = model.adapt(X, y)
    X_before, expected = X.copy(), adapted.predict(X)
    X[:] = 7.0
    y[:] = 7.0
    np.testing.assert_array_equal(adapted.X_support_, X_before)
    np.testing.assert_array_equal(adapted.predict(X_before), expected)
    np.testing.assert_array_equal(adapted.partial_adapt(X_before[:1], [0.0]).X_support_[:3], X_before)


def test_zero_steps_is_zero_shot(model, tasks):
    still = copy.deepcopy(model).set_params(inner_steps=0)
    np.testing.assert_array_equal(still.adapt(tasks[0].X, tasks[0].y).predict(tasks[1].X), model.predict(tasks[1].X))
    resting = copy.deepcopy(model).set_params(inner_lr=0.0)
    np.testing.assert_array_equal(resting.adapt(tasks[0].X, tasks[0].y).predict(tasks[1].X), model.predict(tasks[1].X))


def test_a_fit_at_rate_zero_is_joint_training_on_the_query_rows():
    assert same_weights(fitted(inner_lr=0.0), fitted(inner_steps=0))


def test_partial_adapt_is_adapting_once_on_all_rows(model, tasks):
    X, y = tasks[5].X, tasks[5].y
    first = model.adapt(X[:2], y[:2])
    expected = model.adapt(X, y).predict(X)
    np.testing.assert_array_equal(first.partial_adapt(X[2:], y[2:]).predict(X), expected)
    assert len(first.X_support_) == 2


def test_partial_adapt_keeps_the_settings_of_its_adaptation(model, tasks):
    own = copy.deepcopy(model).set_params(inner_steps=1)
    adapted = own.adapt(tasks[5].X[:2], tasks[5].y[:2])
    own.set_params(inner_steps=50)
    one_step = copy.deepcopy(model).set_params(inner_steps=1).adapt(tasks[5].X, tasks[5].y)
    np.testing.assert_array_equal(
        adapted.partial_adapt(tasks[5].X[2:], tasks[5].y[2:]).predict(tasks[5].X), one_step.predict(tasks[5].X)
    )


def test_support_row_order_does_not_matter(model, tasks):
    X, y = tasks[7].X, tasks[7].y
    np.testing.assert_allclose(
        model.adapt(X, y).predict(X), model.adapt(X[::-1], y[::-1]).predict(X), rtol=1e-5, atol=1e-5
    )


def test_patients_do_not_touch_each_other_across_threads(model, tasks):
    assert_same_in_threads(model, tasks, 80)


def test_float64_rows_are_predicted_row_by_row_to_the_last_digits(model):
    X = np.random.default_rng(0).standard_normal((50, 2))
    whole = model.predict(X)
    assert whole.dtype == np.float64
    np.testing.assert_allclose(whole, np.concatenate([model.predict(row[None]) for row in X]), rtol=1e-12)
    assert model.predict(X.astype(np.float32)).dtype == np.float32


def test_float64_fit(tasks):
    model = fitted(tasks, dtype="float64")
    assert {value.dtype for value in model._params.values()} == {torch.float64}
    np.testing.assert_allclose(model.predict(tasks.X), fitted(tasks).predict(tasks.X), rtol=1e-2, atol=1e-2)


def test_score_is_r2_of_the_queries_around_the_training_mean():
    training = ragged_tasks()
    model = fitted(training)
    tasks = [Task(f"new {i}", task.X, task.y + 1, support=[0, 2]) for i, task in enumerate(ragged_tasks(seed=1))]
    truth, prediction = [], []
    for task in tasks:
        query = np.setdiff1d(np.arange(len(task)), [0, 2])
        truth.append(task.y[query])
        prediction.append(model.adapt(task.X[[0, 2]], task.y[[0, 2]]).predict(task.X[query]))
    truth, prediction = np.concatenate(truth), np.concatenate(prediction)
    expected = 1 - np.square(truth - prediction).sum() / np.square(truth - training.y.mean()).sum()
    assert model.score(tasks) == pytest.approx(expected, rel=1e-5)
    assert model.score(TaskSet(tasks)) == model.score(tasks)


def test_score_is_defined_for_one_row_and_repeats_itself(model):
    one_row = [Task("x", [[0.1, 0.2]], [3.0])]
    assert np.isfinite(model.score(one_row))
    assert model.score(ragged_tasks()) == model.score(ragged_tasks())


def test_score_takes_flat_rows_groups_and_weights(model, tasks):
    groups = tasks.names.repeat(tasks.sizes)
    flat = model.score(tasks.X, tasks.y, groups=groups)
    assert flat == pytest.approx(model.score(tasks))
    assert model.score(tasks.X, tasks.y, groups, sample_weight=np.full(len(tasks.X), 3.0)) == pytest.approx(flat)
    shuffled = np.random.default_rng(0).permutation(len(tasks.X))
    weight = np.where(groups == "task 2", 1.0, 0.0)
    ordered = copy.deepcopy(model).set_params(split="first", support_size=1)
    stable = np.argsort(groups[shuffled], kind="stable")
    expected = ordered.score(tasks.X[shuffled], tasks.y[shuffled], groups[shuffled], sample_weight=weight[shuffled])
    again = shuffled[stable]
    assert ordered.score(tasks.X[again], tasks.y[again], groups[again], sample_weight=weight[again]) == pytest.approx(
        expected
    )


def test_adapted_score_is_the_ordinary_one(model, tasks):
    adapted = model.adapt(tasks[7].X, tasks[7].y)
    expected = r2_score(tasks[7].y, adapted.predict(tasks[7].X))
    assert adapted.score(tasks[7].X, tasks[7].y) == pytest.approx(expected, rel=1e-12)


def test_several_targets(tasks):
    two = [(task.X, np.column_stack([task.y, -2 * task.y])) for task in tasks]
    model = fitted(two)
    assert model.predict(tasks.X).shape == (52, 2)
    adapted = model.adapt(*two[0])
    assert adapted.predict(tasks.X).shape == (52, 2)
    assert np.isfinite(model.score(two))
    column = fitted([(task.X, task.y[:, None]) for task in tasks])
    assert column.predict(tasks.X).shape == (52, 1)
    np.testing.assert_allclose(column.predict(tasks.X)[:, 0], fitted(tasks).predict(tasks.X), rtol=1e-6)


@pytest.mark.parametrize("way", [lambda m: pickle.loads(pickle.dumps(m)), copy.copy, copy.deepcopy])
def test_fitted_and_adapted_models_travel(way, model, tasks):
    other = way(model)
    np.testing.assert_array_equal(other.predict(tasks.X), model.predict(tasks.X))
    adapted = model.adapt(tasks[0].X, tasks[0].y)
    np.testing.assert_array_equal(way(adapted).predict(tasks.X), adapted.predict(tasks.X))
    np.testing.assert_array_equal(other.adapt(tasks[0].X, tasks[0].y).predict(tasks.X), adapted.predict(tasks.X))


def test_joblib(model, tasks, tmp_path):
    adapted = model.adapt(tasks[0].X, tasks[0].y)
    joblib.dump((model, adapted), tmp_path / "both.joblib")
    other, other_adapted = joblib.load(tmp_path / "both.joblib")
    np.testing.assert_array_equal(other.predict(tasks.X), model.predict(tasks.X))
    np.testing.assert_array_equal(other_adapted.predict(tasks.X), adapted.predict(tasks.X))


def test_history_is_a_frame_with_a_row_a_step(model):
    assert list(model.history_.columns) == ["step", "meta_loss", "validation_loss", "seconds"]
    assert len(model.history_) == model.n_iter_ == 40
    assert model.history_["seconds"].is_monotonic_increasing


def test_early_stopping_holds_tasks_out(tasks):
    model = fitted(tasks, early_stopping=True, validation_fraction=0.25, max_iter=60)
    assert model.history_["validation_loss"].notna().sum() == 6
    stopped = fitted(tasks, early_stopping=True, meta_lr=0.0, max_iter=500, n_iter_no_change=30)
    assert stopped.n_iter_ == 40  # judged first in step 10, no better for 30


def test_warm_start_goes_on(tasks):
    model = fitted(tasks, warm_start=True)
    first = {name: value.clone() for name, value in model._params.items()}
    scaling = model._network.targets_scaling
    model.set_params(meta_lr=0.0).fit(ragged_tasks(seed=4))
    assert all(torch.equal(first[name], model._params[name]) for name in first)
    assert model._network.targets_scaling is not scaling
    assert torch.equal(model._network.targets_scaling.mean, scaling.mean)
    with pytest.raises(ValueError, match="expecting 2 features as input .warm_start"):
        model.fit(ragged_tasks(n_features=3))


@pytest.mark.filterwarnings("ignore:callbacks")
def test_callbacks_are_called(tasks):
    seen = []
    model = fitted(tasks, callbacks=[lambda info: seen.append(info.meta_loss) or info.step == 3])
    assert model.n_iter_ == 3
    assert seen == model.history_["meta_loss"].tolist()


def test_clone_and_html(model):
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(NotFittedError):
        clone(model).predict([[0.0, 0.0]])
    assert "MAMLRegressor" in model._repr_html_()
    adapted = model.adapt([[0.0, 1.0]], [2.0])
    assert "adapted on 1 row" in adapted._repr_html_()


def test_column_names_are_remembered(tasks):
    frame = pd.DataFrame(tasks.X, columns=["time", "dose"])
    groups = tasks.names.repeat(tasks.sizes)
    model = MAMLRegressor(**SMALL).fit(frame, tasks.y, groups=groups)
    assert model.feature_names_in_.tolist() == ["time", "dose"]
    adapted = model.adapt(frame[:3], tasks.y[:3])
    assert adapted.feature_names_in_.tolist() == ["time", "dose"]
    assert_agree(adapted.predict(frame), adapted.predict(tasks.X))
    model.fit(tasks)
    assert not hasattr(model, "feature_names_in_")


@pytest.mark.filterwarnings("ignore::metaest.UngroupedWarning")
def test_one_task_and_one_row_can_be_fitted():
    assert np.isfinite(fitted([([[1.0]], [2.0])]).predict([[1.0]])).all()
    assert np.isfinite(MAMLRegressor(**SMALL).fit([[1.0], [2.0]], [2.0, 2.0]).predict([[1.0]])).all()


def test_a_rate_too_large_for_one_task_is_lowered_for_it_and_said(tasks):
    model = fitted(tasks, activation="relu", max_iter=10)
    near, far = (tasks[7].X, tasks[7].y), (1000 * tasks[7].X, tasks[7].y)
    plain = model.adapt(*near)  # warnings are errors in this suite: none comes here
    with pytest.warns(OvershootWarning, match="inner_lr=0.05 overshoots on this task"):
        adapted = model.adapt(*far)
    before, after = (np.square(m.predict(far[0]) - far[1]).mean() for m in (model, adapted))
    assert after <= 2 * before + 1e-3
    np.testing.assert_array_equal(model.adapt(*near).predict(near[0]), plain.predict(near[0]))
    mixed = [Task("near", *near, support=range(9)), Task("far", *far, support=range(9))]
    with pytest.warns(OvershootWarning, match="on 1 of 2 tasks"):
        model.score(mixed)


def test_score_minds_the_number_and_the_shape_of_targets(model, tasks):
    column = [(task.X, task.y[:, None]) for task in tasks]
    assert model.score(column) == model.score(tasks)
    assert fitted(column).score(tasks) == pytest.approx(model.score(tasks), abs=1e-5)
    with pytest.raises(ValueError, match="score: y has shape .* fitted on 1 target"):
        model.score([(task.X, np.column_stack([task.y, task.y])) for task in tasks])


@pytest.mark.parametrize(
    ("weight", "message"), [(np.nan, "nan in row 0; .* finite"), (-1.0, "-1 in row 0"), (0.0, "0 in all rows")]
)
def test_score_refuses_weights_without_meaning(weight, message, model, tasks):
    groups = tasks.names.repeat(tasks.sizes)
    with pytest.raises(ValueError, match=f"score: sample_weight is {message}"):
        model.score(tasks.X, tasks.y, groups, sample_weight=np.full(len(tasks.X), weight))


def test_early_stopping_waits_for_a_validation(tasks):
    model = fitted(tasks, early_stopping=True, n_iter_no_change=1)
    assert model.history_["validation_loss"].notna().any()


def test_warm_start_checks_columns(tasks):
    frame = pd.DataFrame(tasks.X, columns=["a", "b"])
    groups = tasks.names.repeat(tasks.sizes)
    model = MAMLRegressor(**SMALL, warm_start=True).fit(frame, tasks.y, groups)
    with pytest.raises(ValueError, match="same order"):
        model.fit(frame[["b", "a"]], tasks.y, groups)


def test_a_failing_copy_of_the_module_loses_nothing(tasks):
    class Locked(torch.nn.Linear):
        def __init__(self):
            super().__init__(2, 1)
            self.lock = threading.Lock()

    model = fitted(tasks)
    before = model.predict(tasks.X)
    with pytest.raises(TypeError, match="pickle"):
        model.set_params(module=lambda d, t: Locked()).fit(tasks)
    np.testing.assert_array_equal(model.predict(tasks.X), before)
