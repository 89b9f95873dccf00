"""Compiled equals eager: the same draws, the same weights, the same errors; what is not compiled says why."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from metaest import DivergenceError, MAMLRegressor, Task, TaskSet
from metaest_datasets import make_sinusoids
from variants import PROBLEMS, VARIANTS, fitted

pytest.importorskip("llvmlite")
# what is no operation of lanes
EAGER = {"iMAML"}
SMALL = {"hidden_layer_sizes": (8,), "inner_steps": 2}


@pytest.fixture(scope="module")
def tasks():
    return make_sinusoids(40, random_state=0)


def pair(variant, tasks, **settings):
    settings = {"inner_steps": 2, **settings}
    return [fitted(variant, tasks, compile=compiled, **settings) for compiled in (False, True)]


@pytest.mark.parametrize(
    ("variant", "problem"),
    [*((variant, "ragged physical") for variant in sorted(set(VARIANTS) - EAGER)),
     *(("MAML", problem) for problem in PROBLEMS if problem != "ragged physical")],
)  # fmt: skip
def test_every_variant_is_what_torch_makes_of_it(variant, problem):
    tasks = PROBLEMS[problem]()
    eager, compiled = pair(variant, tasks, dtype="float64", max_iter=20)
    assert compiled.compiled_, compiled.compiled_reason_
    assert not eager.compiled_
    np.testing.assert_allclose(compiled.history_["meta_loss"], eager.history_["meta_loss"], rtol=1e-9)
    scale = 1e-8 * tasks.y.std()
    np.testing.assert_allclose(compiled.predict(tasks.X), eager.predict(tasks.X), rtol=0, atol=scale)
    few = tasks[0].X[:3], tasks[0].y[:3]
    np.testing.assert_allclose(
        compiled.adapt(*few).predict(tasks.X), eager.adapt(*few).predict(tasks.X), rtol=0, atol=scale
    )


@pytest.mark.usefixtures("optimised")
def test_a_hundred_steps_are_the_same(tasks):
    eager, compiled = pair("MAML", tasks, dtype="float64", max_iter=100)
    difference = np.abs(compiled.predict(tasks.X) - eager.predict(tasks.X)).max()
    assert difference <= 1e-8 * tasks.y.std()


def test_a_step_in_single_precision_is_close(tasks):
    eager, compiled = pair("MAML", tasks, max_iter=1)
    for name, value in eager._params.items():
        torch.testing.assert_close(compiled._params[name], value, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_long_fit_scores_within_the_spread_of_seeds(tasks):
    settings = {"hidden_layer_sizes": (8,), "max_iter": 300, "meta_batch_size": 8}
    scores = [MAMLRegressor(compile=False, random_state=seed, **settings).fit(tasks).score(tasks) for seed in range(3)]
    compiled = MAMLRegressor(random_state=0, **settings).fit(tasks)
    assert compiled.compiled_
    assert abs(compiled.score(tasks) - scores[0]) <= np.std(scores)


@pytest.mark.parametrize("settings", [
    {"normalization": "layer"},
    {"normalization": "batch"},
    {"normalization": "batch", "batch_statistics": "per-step"},
    {"activation": "relu"},
    {"activation": "silu"},
    {"activation": "logistic"},
    {"support_size": (1, 5)},
    {"support_size": 0},
    {"split": "first"},
    {"meta_batch_size": 7},
    {"meta_batch_size": 1},
    {"inner_steps": 0},
    {"max_grad_norm": None},
    {"max_grad_norm": 1e-3},
    {"alpha": 0.0},
    {"standardize": False},
    {"early_stopping": True, "max_iter": 35},
    {"hidden_layer_sizes": ()},
    {"hidden_layer_sizes": (70, 3)},
    {"inner_steps": 3, "multi_step_share": 0.4},
    {"inner_steps": 3, "multi_step_share": 0.7, "first_order_share": 0.3, "learn_inner_lr": "one"},
    {"first_order_share": 1.0},
], ids=str)  # fmt: skip
@pytest.mark.filterwarnings("ignore::metaest.OvershootWarning")
def test_settings_mean_the_same(tasks, settings):
    eager, compiled = pair(
        "MAML",
        tasks,
        **{"dtype": "float64", "max_iter": 12, "inner_steps": 1, "hidden_layer_sizes": (6, 4), **settings},
    )
    assert compiled.compiled_, compiled.compiled_reason_
    # statistics of three rows divide by what is next to nothing, which magnifies rounding
    close = 1e-6 if settings.get("normalization") else 1e-8
    np.testing.assert_allclose(compiled.predict(tasks.X), eager.predict(tasks.X), rtol=close, atol=close)
    np.testing.assert_array_equal(
        compiled.history_["validation_loss"].notna(), eager.history_["validation_loss"].notna()
    )


STAGES = {"inner_steps": 3, "multi_step_share": 0.7, "first_order_share": 0.3, "max_iter": 23, "dtype": "float64"}


@pytest.mark.filterwarnings("ignore:callbacks")
def test_stages_are_crossed_within_a_call_and_between_calls(tasks):
    models = [
        MAMLRegressor(hidden_layer_sizes=(8,), compile=True, random_state=0, callbacks=callbacks, **STAGES).fit(tasks)
        for callbacks in ([], [lambda info: None])
    ]
    assert all(model.compiled_ for model in models)
    np.testing.assert_array_equal(models[0].history_["meta_loss"], models[1].history_["meta_loss"])


def test_steps_that_are_left_to_torch_know_their_stage(tasks, monkeypatch):
    from metaest.jit import CompiledMetaSteps

    settings = {"hidden_layer_sizes": (8,), "random_state": 0, **STAGES}
    expected = MAMLRegressor(compile=False, **settings).fit(tasks)
    monkeypatch.setattr(CompiledMetaSteps, "_agrees", lambda steps, drawn: False)
    left = MAMLRegressor(compile=True, **settings).fit(tasks)
    assert "different meta-gradients" in left.compiled_reason_
    np.testing.assert_array_equal(left.history_["meta_loss"], expected.history_["meta_loss"])


def test_a_stage_that_torch_contradicts_is_seen_before_the_first_step(tasks, monkeypatch):
    from metaest.jit import meta_steps

    agrees = meta_steps.CompiledMetaSteps._stage_agrees
    monkeypatch.setattr(
        meta_steps.CompiledMetaSteps,
        "_stage_agrees",
        lambda steps, stage, drawn: stage < 2 and agrees(steps, stage, drawn),
    )
    model = MAMLRegressor(hidden_layer_sizes=(8,), compile=True, random_state=0, **STAGES).fit(tasks)
    assert not model.compiled_


def test_several_features_and_targets():
    rng = np.random.default_rng(0)
    tasks = TaskSet([Task(i, rng.normal(size=(9 + i, 3)), rng.normal(size=(9 + i, 2))) for i in range(6)])
    eager, compiled = pair("MAML", tasks, dtype="float64")
    assert compiled.compiled_
    np.testing.assert_allclose(compiled.predict(tasks.X), eager.predict(tasks.X), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("inner_solver", ["ridge", "bayes"])
@pytest.mark.parametrize(("support_size", "hidden", "n_targets"), [(5, (6,), 1), ((1, 4), (4, 4), 3), (12, (4,), 2)])
def test_a_head_in_closed_form_is_that_of_torch(inner_solver, support_size, hidden, n_targets):
    rng = np.random.default_rng(0)
    tasks = TaskSet([Task(i, rng.normal(size=(16, 3)), rng.normal(size=(16, n_targets))) for i in range(20)])
    settings = {
        "inner_solver": inner_solver,
        "support_size": support_size,
        "hidden_layer_sizes": hidden,
        "max_iter": 25,
    }
    settings |= {"random_state": 0, "meta_batch_size": 7}
    eager, compiled = (
        MAMLRegressor(**settings, dtype="float64", compile=compiling).fit(tasks) for compiling in (False, True)
    )
    assert compiled.compiled_, compiled.compiled_reason_
    np.testing.assert_allclose(compiled.history_["meta_loss"], eager.history_["meta_loss"], rtol=1e-11)
    for name, value in eager._params.items():
        torch.testing.assert_close(compiled._params[name], value, rtol=1e-9, atol=1e-11)
    if n_targets == 3:
        eager, compiled = (MAMLRegressor(**settings, compile=compiling).fit(tasks) for compiling in (False, True))
        assert compiled.compiled_, compiled.compiled_reason_
        np.testing.assert_allclose(compiled.history_["meta_loss"], eager.history_["meta_loss"], rtol=1e-4)


def test_supports_of_the_tasks_own(tasks):
    own = TaskSet([Task(i, task.X[: 6 + i % 5], task.y[: 6 + i % 5], support=[0, 2]) for i, task in enumerate(tasks)])
    eager, compiled = pair("MAML", own, dtype="float64")
    assert compiled.compiled_
    np.testing.assert_allclose(compiled.predict(own.X), eager.predict(own.X), rtol=1e-8, atol=1e-8)


def test_warm_start_goes_on(tasks):
    models = []
    for compiled in (False, True):
        model = MAMLRegressor(**SMALL, max_iter=10, warm_start=True, compile=compiled, dtype="float64", random_state=0)
        models.append(model.fit(tasks).fit(tasks))
    np.testing.assert_allclose(models[1].predict(tasks.X), models[0].predict(tasks.X), rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore:callbacks")
def test_callbacks_see_every_step_and_can_stop(tasks):
    seen = []
    stops = [lambda info: seen.append(info.step) or info.step == 7]
    model = MAMLRegressor(**SMALL, max_iter=50, compile=True, callbacks=stops)
    model.fit(tasks)
    assert model.compiled_
    assert seen == list(range(1, 8))
    assert model.n_iter_ == 7


@pytest.mark.usefixtures("optimised")
def test_same_seed_same_bits(tasks):
    first, second = (MAMLRegressor(**SMALL, max_iter=40, compile=True, random_state=3).fit(tasks) for _ in range(2))
    np.testing.assert_array_equal(first.predict(tasks.X), second.predict(tasks.X))


def test_divergence_is_the_same_error(tasks):
    messages = []
    for compiled in (False, True):
        settings = {"inner_lr": 1e6, "activation": "identity", "max_grad_norm": None, "hidden_layer_sizes": (4,)}
        settings |= {"max_iter": 20, "inner_steps": 2}
        model = MAMLRegressor(**settings, compile=compiled, random_state=0)
        with pytest.raises(DivergenceError) as error:
            model.fit(tasks)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


class Counting(nn.Module):
    """A module whose answer depends on how often it was asked: what a trace cannot know."""

    def __init__(self, n_features, n_targets):
        super().__init__()
        self.linear = nn.Linear(n_features, n_targets)
        self.calls = 0

    def forward(self, X):
        self.calls += 1
        return self.linear(X) * (1 + 0.01 * (self.calls % 7))


class Branching(nn.Module):
    def __init__(self, n_features, n_targets):
        super().__init__()
        self.linear = nn.Linear(n_features, n_targets)

    def forward(self, X):
        output = self.linear(X)
        return output if output.mean() > 0 else 2 * output


class Basis(nn.Module):
    """A module with numbers of its own that are not learned."""

    def __init__(self, n_features, n_targets):
        super().__init__()
        self.register_buffer("centres", torch.linspace(-2, 2, 5))
        self.fixed = nn.Parameter(torch.tensor([1.0, -0.5, 0.3, 0.2, -1.0]), requires_grad=False)
        self.linear = nn.Linear(5, n_targets)

    def forward(self, X):
        return self.linear(torch.exp(-((X - self.centres) ** 2)) * self.fixed)


def test_a_module_with_buffers(tasks):
    models = [
        MAMLRegressor(module=Basis, inner_steps=2, max_iter=20, dtype="float64", compile=compiled, random_state=0).fit(
            tasks
        )
        for compiled in (False, True)
    ]
    assert models[1].compiled_
    np.testing.assert_allclose(models[1].predict(tasks.X), models[0].predict(tasks.X), rtol=1e-8)
    assert models[1].set_params(compile=True).adapt_many(tasks[:3]).compiled_


def test_a_module_that_changes_is_left_to_torch(tasks, caplog):
    with caplog.at_level(logging.WARNING, logger="metaest"):
        model = MAMLRegressor(module=Counting, max_iter=3, compile=True, random_state=0).fit(tasks)
    assert not model.compiled_
    assert "different meta-gradients" in model.compiled_reason_
    assert "different meta-gradients" in caplog.text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"module": Branching}, "torch cannot trace it"),
        ({"module": lambda p, q: nn.Sequential(nn.Linear(p, 8), nn.Dropout(0.1), nn.Linear(8, q))}, "draws at random"),
    ],
)
def test_what_cannot_be_compiled_is_fitted_by_torch_and_says_why(tasks, caplog, settings, words):
    with caplog.at_level(logging.WARNING, logger="metaest"):
        model = MAMLRegressor(max_iter=3, compile=True, random_state=0, **settings).fit(tasks)
    assert not model.compiled_
    assert words in model.compiled_reason_
    assert words in caplog.text
    assert np.isfinite(model.predict(tasks.X)).all()


@pytest.mark.filterwarnings("ignore:callbacks")
def test_auto_goes_by_counts(tasks):
    short = MAMLRegressor(max_iter=10).fit(tasks)
    assert not short.compiled_
    assert short.compiled_reason_ == "10 meta-steps are too few to repay compiling (300)"
    wide = MAMLRegressor(
        hidden_layer_sizes=(400, 400), inner_lr=0.001, max_iter=300, callbacks=[lambda info: True]
    ).fit(tasks)
    assert not wide.compiled_
    assert "MB" in wide.compiled_reason_


def test_without_llvm_torch_does_it(tasks, monkeypatch, caplog):
    from metaest.jit.llvm import compile as llvm

    llvm._machine.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "llvmlite.binding", None)
    with caplog.at_level(logging.WARNING, logger="metaest"):
        model = MAMLRegressor(**SMALL, max_iter=3, compile=True).fit(tasks)
    llvm._machine.cache_clear()
    assert not model.compiled_
    assert "pip install 'metaest[compile]'" in caplog.text


def test_where_llvm_fails_torch_does_it(tasks, monkeypatch):
    from metaest.jit.llvm import compile as llvm

    def fails(text):
        raise RuntimeError("no such register\nand more")

    monkeypatch.setattr(llvm, "_library", fails)
    model = MAMLRegressor(**SMALL, max_iter=3, compile=True, random_state=0).fit(tasks)
    assert (model.compiled_, model.compiled_reason_) == (False, "LLVM refuses: no such register")
    assert not model.adapt_many(tasks).compiled_
