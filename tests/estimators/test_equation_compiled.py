"""A compiled equation gives what torch gives, in fits and adaptations; what is not compiled says why."""

import logging
import pickle

import numpy as np
import pytest
import torch

from equations import AVRAMI, THEOPHYLLINE, absorption, avrami, wave
from metaest import EquationRegressor, Parameter, TaskSet
from metaest_datasets import load_theophylline, make_avrami_tasks, make_sinusoids

pytest.importorskip("llvmlite")
# some of these equations are not those that made the rows
pytestmark = pytest.mark.filterwarnings(
    "ignore::metaest.IdentifiabilityWarning", "ignore::metaest.CorrelatedResidualsWarning"
)


PROBLEMS = {
    "theophylline": lambda: (absorption, THEOPHYLLINE, load_theophylline(), {}),
    "diagonal": lambda: (absorption, THEOPHYLLINE, load_theophylline(), {"covariance": "diagonal"}),
    "shared": lambda: (absorption, THEOPHYLLINE, load_theophylline(), {"random": ["Ka", "Cl"]}),
    "combined": lambda: (absorption, THEOPHYLLINE, load_theophylline(), {"noise": "combined", "random": ["Cl"]}),
    "ragged": lambda: (avrami, AVRAMI, ragged(), {}),
    "query": lambda: (avrami, AVRAMI, ragged(), {"objective": "query", "random_state": 0, "n_episodes": 2}),
    "waves": lambda: (
        wave,
        {"amplitude": Parameter(2.0, lower=0), "phase": Parameter(1.5)},
        make_sinusoids(30, 10, noise=0.1, random_state=0),
        {},
    ),
}


def ragged():
    tasks, _ = make_avrami_tasks(20, random_state=0)
    return [(task.X[: 3 + i % 6], task.y[: 3 + i % 6]) for i, task in enumerate(tasks)]


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_compiled_fit_is_that_of_torch(name):
    equation, constants, tasks, settings = PROBLEMS[name]()
    eager, compiled = (
        EquationRegressor(equation, constants, compile=flag, **settings).fit(tasks) for flag in (False, True)
    )
    assert compiled.compiled_, compiled.compiled_reason_
    assert (eager.compiled_, eager.compiled_reason_) == (False, "compile=False")
    # the density of query rows is flat about its maximum, and the log-evidence is not at its own there
    assert compiled.history_["loss"].iloc[-1] == pytest.approx(eager.history_["loss"].iloc[-1], rel=1e-8)
    rel = 1e-4 if name == "query" else 1e-8
    assert compiled.log_likelihood_ == pytest.approx(eager.log_likelihood_, rel=rel)
    numbers = ["value", "standard_error", "between_task_sd"]
    np.testing.assert_allclose(compiled.population_[numbers], eager.population_[numbers], rtol=1e-3)


@pytest.mark.parametrize("name", ["theophylline", "ragged", "combined"])
def test_compiled_adaptations_are_those_of_torch(name):
    equation, constants, tasks, settings = PROBLEMS[name]()
    model = EquationRegressor(equation, constants, compile=False, **settings).fit(tasks)
    eager = model.adapt_many(tasks)
    model.set_params(compile=True)
    compiled, again = model.adapt_many(tasks), model.adapt_many(tasks)
    numbers = eager.params_.columns.drop("status")
    np.testing.assert_allclose(compiled.params_[numbers], eager.params_[numbers], rtol=1e-8)
    np.testing.assert_array_equal(compiled.params_[numbers], again.params_[numbers])
    assert (compiled.params_["status"] == eager.params_["status"]).all()
    X, y = tasks[3] if isinstance(tasks, list) else (tasks[3].X, tasks[3].y)
    one = model.adapt(X[:3], y[:3])
    other = model.set_params(compile=False).adapt(X[:3], y[:3])
    np.testing.assert_allclose(one.params_["value"], other.params_["value"], rtol=1e-8)
    np.testing.assert_allclose(one.predict(X), other.predict(X), rtol=1e-8)
    low, high = one.predict_interval(X, level=0.9)
    for value, expected in zip((low, high), other.predict_interval(X, level=0.9), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-8)


def test_machine_code_does_not_travel():
    tasks, _ = make_avrami_tasks(20, random_state=0)
    model = EquationRegressor(avrami, AVRAMI, compile=True).fit(tasks)
    adapted = model.adapt(tasks[0].X[:3], tasks[0].y[:3])
    before = len(pickle.dumps(model))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(adapted)).predict(tasks.X), adapted.predict(tasks.X))
    copy = pickle.loads(pickle.dumps(model))
    assert len(pickle.dumps(model)) == before
    np.testing.assert_array_equal(copy.adapt(tasks[0].X[:3], tasks[0].y[:3]).predict(tasks.X), adapted.predict(tasks.X))


def test_auto_compiles_every_fit_by_evidence():
    tasks, _ = make_avrami_tasks(20, random_state=0)
    model = EquationRegressor(avrami, AVRAMI).fit(tasks)
    assert model.compiled_
    assert model.compiled_reason_ == "compiled, vectorised over rows"


def coupled(X, k, n):
    return k * X[:, 0] + n * X[:, 0].cumsum(0)


def special(X, k, n):
    return k * torch.erf(n * X[:, 0])


@pytest.mark.parametrize(
    ("equation", "settings", "words"),
    [
        (coupled, {}, "see each other"),
        (special, {}, "erf.default cannot be compiled"),
        (avrami, {"objective": "query", "inner_solver": "gradient", "max_iter": 5}, "gradient steps"),
        (avrami, {"limit": 0.2}, "cannot be compiled"),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::metaest.UnlikelyTaskWarning")
def test_what_is_not_compiled_says_why(equation, settings, words, caplog):
    tasks, _ = make_avrami_tasks(12, random_state=0)
    with caplog.at_level(logging.WARNING, logger="metaest"):
        model = EquationRegressor(equation, AVRAMI, compile=True, **settings).fit(tasks)
    assert not model.compiled_
    assert words in model.compiled_reason_
    assert words in caplog.text
    model.adapt(tasks[0].X, tasks[0].y)


def test_bad_settings_of_compile_are_refused():
    with pytest.raises(ValueError, match="compile"):
        EquationRegressor(avrami, AVRAMI, compile="yes").fit(make_avrami_tasks(5, random_state=0)[0])


def test_a_task_set_of_many_sizes_needs_few_programs():
    rng = np.random.default_rng(0)
    tasks, _ = make_avrami_tasks(20, random_state=0)
    model = EquationRegressor(avrami, AVRAMI, compile=True).fit(tasks)
    sizes = np.arange(1, 25).repeat(3)
    t = rng.uniform(0.1, 2, sizes.sum())
    many = TaskSet.from_arrays(t[:, None], avrami(torch.from_numpy(t)[:, None], 1.0, 2.0), np.arange(72).repeat(sizes))
    adapted = model.adapt_many(many)
    expected = model.set_params(compile=False).adapt_many(many)
    np.testing.assert_allclose(adapted.params_["k"], expected.params_["k"], rtol=1e-7)
