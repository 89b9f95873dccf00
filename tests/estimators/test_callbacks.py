"""Callbacks that cannot be pickled: a word at the fit, a word at the pickling, and nothing else is lost."""

import pickle
import threading
import warnings
from copy import deepcopy

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score, cross_validate

from metaest import MAMLClassifier, MAMLPolicy, MAMLRegressor
from problems import ragged_tasks

TASKS = ragged_tasks()
SMALL = {"hidden_layer_sizes": (4,), "max_iter": 4, "random_state": 0}
CLASSES = [(X, np.array([0, 1] * 4)) for X in np.random.default_rng(0).normal(size=(4, 8, 2))]


def stop_at_two(info):
    return info.step == 2


class Counter:
    def __init__(self):
        self.steps = 0

    def __call__(self, info):
        self.steps += 1


class Locked(Counter):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def __repr__(self):
        return "Locked()"


@pytest.mark.parametrize(
    ("make", "tasks"),
    [
        (MAMLRegressor, TASKS),
        (MAMLClassifier, CLASSES),
        (lambda **settings: MAMLPolicy(**settings, support_size=1), TASKS),
    ],
)
@pytest.mark.parametrize(("callback", "name"), [(lambda info: None, "<lambda>"), (Locked(), r"Locked\(\)")])
def test_what_cannot_be_pickled_is_left_out_with_a_word(make, tasks, callback, name):
    model = make(**SMALL, callbacks=[callback, stop_at_two])
    with pytest.warns(UserWarning, match=f"cannot be pickled .{name}. will be left out"):
        model.fit(tasks)
    with pytest.warns(UserWarning, match=f"cannot be pickled .{name}. are left out of the pickle") as said:
        loaded = pickle.loads(pickle.dumps(model))
    assert said[0].filename == __file__
    assert loaded.callbacks == [stop_at_two]
    assert model.callbacks == [callback, stop_at_two]
    np.testing.assert_array_equal(loaded.predict(CLASSES[0][0]), model.predict(CLASSES[0][0]))
    loaded.fit(tasks)
    assert loaded.n_iter_ == 2


def test_what_can_be_pickled_travels_in_silence():
    model = MAMLRegressor(**SMALL, callbacks=(counter := Counter(), stop_at_two)).fit(TASKS)
    loaded = pickle.loads(pickle.dumps(model))
    assert isinstance(loaded.callbacks, tuple)
    assert loaded.callbacks[0].steps == counter.steps == 2
    assert loaded.callbacks[1] is stop_at_two


def test_copies_and_clones_keep_every_callback():
    seen = []
    model = MAMLRegressor(**SMALL, callbacks=[lambda info: seen.append(info.step)])
    with pytest.warns(UserWarning, match="cannot be pickled"):
        model.fit(TASKS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copies = deepcopy(model), clone(model)
    assert all(copy.callbacks[0] is model.callbacks[0] for copy in copies)
    np.testing.assert_array_equal(copies[0].predict(TASKS.X), model.predict(TASKS.X))


def test_a_callback_may_hold_the_model():
    class_of_module = Counter()
    model = MAMLRegressor(**SMALL, callbacks=[class_of_module])
    class_of_module.model = model
    model.fit(TASKS)
    loaded = pickle.loads(pickle.dumps(model))
    assert loaded.callbacks[0].model is loaded


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:callbacks")
def test_processes_run_the_callbacks_that_one_process_runs():
    model = MAMLRegressor(**SMALL, callbacks=[lambda info: info.step == 2])
    one = cross_val_score(model, TASKS, cv=2)
    two = cross_validate(model, TASKS, cv=2, n_jobs=2, return_estimator=True)
    np.testing.assert_allclose(two["test_score"], one, rtol=1e-5)
    assert [estimator.n_iter_ for estimator in two["estimator"]] == [2, 2]
    assert [estimator.callbacks for estimator in two["estimator"]] == [[], []]
