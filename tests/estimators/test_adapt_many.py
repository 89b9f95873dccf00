"""Many tasks in one call: each as if alone, by torch or in machine code."""

import pickle

import numpy as np
import pytest

from metaest import DivergenceError, EquationRegressor, MAMLRegressor, OvershootWarning, Task, TaskError, TaskSet
from metaest_datasets import make_sinusoids
from variants import fitted

FEW_STEPS = {"inner_steps": 2, "max_iter": 20, "hidden_layer_sizes": (8,)}


@pytest.fixture(scope="module")
def tasks():
    return make_sinusoids(20, random_state=0)


@pytest.fixture(scope="module")
def supports():
    own = make_sinusoids(11, random_state=1)
    return TaskSet([Task(f"p{i}", task.X[: 1 + i % 4], task.y[: 1 + i % 4]) for i, task in enumerate(own)])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("variant", ["MAML", "ANIL", "CAVIA", "Meta-SGD", "R2D2"])
def test_each_is_adapted_as_if_alone(tasks, supports, variant, compiled):
    model = fitted(variant, tasks, dtype="float64", **FEW_STEPS)
    alone = [model.set_params(compile=False).adapt(task.X, task.y).predict(tasks[0].X) for task in supports]
    many = model.set_params(compile=compiled).adapt_many(supports)
    assert many.compiled_ == (compiled and variant != "R2D2")
    np.testing.assert_allclose(many.predict(tasks[0].X), alone, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(many[5].predict(tasks[0].X), alone[5], rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(many[5].X_support_, supports[5].X)
    assert len(list(many)) == len(many[:]) == 11


@pytest.mark.filterwarnings("ignore::metaest.OvershootWarning")
@pytest.mark.parametrize("settings", [{"normalization": "batch"}, {"normalization": "layer"}, {"activation": "relu"}])
def test_one_task_in_machine_code_is_the_same(tasks, settings):
    model = MAMLRegressor(dtype="float64", random_state=0, support_size=3, **FEW_STEPS, **settings).fit(tasks)
    for n in (2, 7):
        rows = tasks[1].X[:n], tasks[1].y[:n]
        expected = model.set_params(compile=False).adapt(*rows).predict(tasks[1].X)
        found = model.set_params(compile=True).adapt(*rows)
        np.testing.assert_allclose(found.predict(tasks[1].X), expected, rtol=1e-6, atol=1e-8)
        assert pickle.loads(pickle.dumps(found)).predict(tasks[1].X) == pytest.approx(expected, rel=1e-6)


def test_auto_goes_by_the_number_of_tasks(tasks):
    model = MAMLRegressor(max_iter=5, hidden_layer_sizes=(4,), random_state=0).fit(tasks)
    few = make_sinusoids(10, n_rows=4, random_state=2)
    many = make_sinusoids(2000, n_rows=4, random_state=2)
    assert not model.adapt_many(few).compiled_
    adapted = model.adapt_many(many)
    assert adapted.compiled_
    np.testing.assert_allclose(adapted[7].predict(few.X), model.adapt(many[7].X, many[7].y).predict(few.X), atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_rate_that_overshoots_is_lowered_for_those_tasks_alone(tasks, compiled):
    settings = {"dtype": "float64", "activation": "relu", "inner_lr": 0.01, "random_state": 0, "compile": compiled}
    model = MAMLRegressor(**settings, **FEW_STEPS).fit(tasks)
    own = TaskSet([Task("near", tasks[0].X, tasks[0].y), Task("far", 100 * tasks[0].X, tasks[0].y)])
    with pytest.warns(OvershootWarning, match="1 of 2 tasks"):
        many = model.adapt_many(own)
    assert many.lowered_.tolist() == [False, True]
    with pytest.warns(OvershootWarning):
        far = model.adapt(own[1].X, own[1].y)
    np.testing.assert_allclose(many[1].predict(own[1].X), far.predict(own[1].X), rtol=1e-6)
    np.testing.assert_allclose(many[0].predict(own[0].X), model.adapt(own[0].X, own[0].y).predict(own[0].X), rtol=1e-8)


def test_rows_of_their_own(tasks, supports):
    model = MAMLRegressor(random_state=0, **FEW_STEPS).fit(tasks)
    many = model.adapt_many(supports)
    np.testing.assert_allclose(
        many.predict(supports), np.concatenate([own.predict(own.X_support_) for own in many]), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(TaskError, match="pass the tasks that were adapted to"):
        many.predict(supports[::-1])


def test_a_refit_forgets_what_was_compiled(tasks):
    model = MAMLRegressor(random_state=0, compile=True, warm_start=True, dtype="float64", **FEW_STEPS).fit(tasks)
    rows = tasks[1].X[:3], tasks[1].y[:3]
    model.adapt(*rows)
    model.fit(tasks)
    expected = model.set_params(compile=False).adapt(*rows).predict(tasks.X)
    np.testing.assert_allclose(model.set_params(compile=True).adapt(*rows).predict(tasks.X), expected, rtol=1e-8)
    model.set_params(inner_steps=3)
    expected = model.set_params(compile=False).adapt(*rows).predict(tasks.X)
    np.testing.assert_allclose(model.set_params(compile=True).adapt(*rows).predict(tasks.X), expected, rtol=1e-8)


def test_several_targets():
    rng = np.random.default_rng(0)
    tasks = TaskSet([Task(i, rng.normal(size=(6, 2)), rng.normal(size=(6, 3))) for i in range(5)])
    model = MAMLRegressor(random_state=0, dtype="float64", compile=True, **FEW_STEPS).fit(tasks)
    many = model.adapt_many(tasks)
    assert many.predict(tasks[0].X).shape == (5, 6, 3)
    assert many.predict(tasks).shape == (30, 3)
    expected = model.set_params(compile=False).adapt(tasks[2].X, tasks[2].y).predict(tasks[0].X)
    np.testing.assert_allclose(many.predict(tasks[0].X)[2], expected, rtol=1e-8)


def test_bad_input_names_the_task(tasks):
    model = MAMLRegressor(random_state=0, max_iter=2).fit(tasks)
    with pytest.raises(TaskError, match="'b'"):
        model.adapt_many([Task("a", tasks[0].X, tasks[0].y), Task("b", np.full((2, 1), np.nan), np.ones(2))])
    with pytest.raises(TaskError, match="features"):
        model.adapt_many([(np.ones((3, 2)), np.ones(3))])
    with pytest.raises(TaskError, match="fitted on 1 target"):
        model.adapt_many([(np.ones((3, 1)), np.ones((3, 2)))])
    normed = MAMLRegressor(random_state=0, max_iter=2, normalization="batch", support_size=3).fit(tasks)
    with pytest.raises(TaskError, match="task 'b'.*needs 2"):
        normed.adapt_many([Task("a", tasks[0].X, tasks[0].y), Task("b", tasks[0].X[:1], tasks[0].y[:1])])
    wild = MAMLRegressor(random_state=0, max_iter=2, hidden_layer_sizes=(8,), activation="relu").fit(tasks)
    with pytest.raises(DivergenceError, match="task 'b'"):
        wild.adapt_many([Task("a", tasks[0].X, tasks[0].y), Task("b", np.full((2, 1), 1e30), np.full(2, 1e30))])


def test_the_tasks_to_predict_come_in_any_form(tasks, supports):
    model = MAMLRegressor(max_iter=2, random_state=0).fit(tasks)
    given = {f"p{i}": (tasks[i].X, tasks[i].y) for i in range(3)}
    adapted = model.adapt_many({name: (X[:4], y[:4]) for name, (X, y) in given.items()})
    expected = adapted.predict(TaskSet(given))
    np.testing.assert_array_equal(adapted.predict(given), expected)
    np.testing.assert_array_equal(adapted.predict([Task(name, X, y) for name, (X, y) in given.items()]), expected)
    pairs = list(given.values())
    np.testing.assert_array_equal(model.adapt_many([(X[:4], y[:4]) for X, y in pairs]).predict(pairs), expected)
    with pytest.raises(TaskError, match="a mapping of names to rows alone was passed"):
        adapted.predict({name: X for name, (X, _) in given.items()})
    with pytest.raises(TaskError, match="pass the tasks that were adapted to"):
        adapted.predict(dict(reversed(given.items())))


def test_predictors_are_taken_by_number_or_by_name():
    model = EquationRegressor(lambda X, a: a * X[:, 0], {"a": 1.0}, compile=False)
    tasks = {name: ([[1.0], [2.0]], [a, 2 * a + 0.1]) for name, a in [("left", 1.0), ("right", 2.0), ("middle", 1.4)]}
    adapted = model.fit(tasks).adapt_many(tasks)
    assert (
        adapted["right"].params_["value"]["a"] == adapted[1].params_["value"]["a"] == adapted[-2].params_["value"]["a"]
    )
    assert [one.params_["value"]["a"] for one in adapted[1:]] == [
        one.params_["value"]["a"] for one in list(adapted)[1:]
    ]
    with pytest.raises(TaskError, match="no task is named 'up'; there are 3, the first is 'left'"):
        adapted["up"]
    with pytest.raises(TypeError):
        adapted[1.7]
