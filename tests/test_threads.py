"""Threads: the bits of one thread, and a process left as it was."""

import logging
import os
import pickle
import random
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch.backends import mha

import mixed_calls
from metaest import MAMLRegressor, OvershootWarning, TaskSet, exceptions
from metaest.estimators.networks import compiled as serving
from metaest.exceptions import quiet, warn
from metaest.functional.generator import Stream, seeded
from metaest.jit import CompiledFunction, UnsupportedError
from metaest.jit.errors import MomentaryError
from metaest.jit.trace import graph
from metaest.scorers import few_shot_accuracy, few_shot_rmse
from metaest_datasets import make_sinusoids

# the slow tests take all kinds
KINDS = ("compiled network", "module", "attention", "classifier", "policy", "compiled equation")


def of_process():
    """What a process has one of, as one string a thing."""
    return {
        "filters": repr(warnings.filters),
        "environment": repr(dict(os.environ)),
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "numpy's generator": repr(np.random.get_state()),  # noqa: NPY002 - what others draw from
        "Python's generator": repr(random.getstate()),
        "numpy's errors": repr(np.geterr()),
        "dtype": repr(torch.get_default_dtype()),
        "threads of torch": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "attention": (torch.backends.cuda.flash_sdp_enabled(), mha.get_fastpath_enabled()),
        "recursion": sys.getrecursionlimit(),
        "handlers": repr(logging.getLogger().handlers),
        "level": logging.getLogger("metaest").level,
    }


@contextmanager
def process_unchanged():
    before = of_process()
    yield
    after = of_process()
    assert [name for name in before if before[name] != after[name]] == []
    assert not any("tqdm" in thread.name for thread in threading.enumerate())


def in_threads(n_threads, functions):
    """Call functions, all threads beginning at once."""
    barrier = threading.Barrier(n_threads)
    parts = [functions[k::n_threads] for k in range(n_threads)]

    def run(part):
        barrier.wait()
        return [function() for function in part]

    with ThreadPoolExecutor(n_threads) as pool:
        results = list(pool.map(run, parts))
    return [results[i % n_threads][i // n_threads] for i in range(len(functions))]


pytestmark = pytest.mark.filterwarnings("ignore")  # small fits warn of this and that


def test_fits_in_threads_have_the_bits_of_one_thread():
    functions = [*mixed_calls.fits((*KINDS, "equation")).values()]
    with process_unchanged():
        assert in_threads(4, functions) == [function() for function in functions]


class AlwaysDraws(torch.nn.Module):
    """It draws in evaluation, too."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.layer = torch.nn.Linear(n_features, n_outputs)

    def forward(self, X):
        return self.layer(X) + 0.01 * torch.randn(len(X), 1)


def test_modules_that_draw_in_evaluation_are_fitted_by_the_seed_alone():
    waves = make_sinusoids(12, n_rows=8, random_state=0)

    def weights(seed):
        model = mixed_calls.regressor(module=AlwaysDraws, random_state=seed, early_stopping=True, max_iter=4).fit(waves)
        return model.module_.layer.weight.tolist()

    functions = [partial(weights, seed) for seed in range(3)]
    with process_unchanged():
        assert in_threads(3, functions) == [function() for function in functions]


def mixed(models, n):
    made = list(mixed_calls.calls(models).values())
    return [lambda i=i: made[i % len(made)](i) for i in range(n)]


def test_calls_in_threads_have_the_bits_of_one_thread():
    models = mixed_calls.fitted(KINDS)
    # copies have no machine code yet: they are compiled for the first time in threads
    copies = pickle.loads(pickle.dumps(models))
    with process_unchanged():
        assert in_threads(4, mixed(copies, 60)) == [function() for function in mixed(models, 60)]


@pytest.mark.slow
def test_sixteen_threads_of_a_thousand_calls_have_the_bits_of_one_thread():
    models = mixed_calls.fitted()
    once = [function() for function in mixed(models, 1000)]
    with process_unchanged():
        for _ in range(16):
            copies = pickle.loads(pickle.dumps(models))
            assert in_threads(16, mixed(copies, 1000)) == once


@pytest.mark.slow
def test_thirty_two_fits_in_eight_threads_have_the_bits_of_one_thread():
    functions = mixed_calls.half_compiled(32)
    once = {function: function() for function in set(functions)}
    with process_unchanged():
        assert in_threads(8, functions) == [once[function] for function in functions]


def test_threads_that_first_use_torch_during_a_fit_keep_its_number_of_threads():
    waves, numbers = make_sinusoids(12, n_rows=8, random_state=0), []

    def elsewhere(info):
        if not numbers:
            other = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
            other.start()
            other.join()
            numbers.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        mixed_calls.regressor(max_iter=2, callbacks=[elsewhere]).fit(waves)
        assert numbers == [3, 1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_stream_goes_on_whoever_draws_in_between():
    with seeded(5):
        wanted = torch.rand(4)
    stream, before = Stream(5), torch.get_rng_state()
    found = []
    for _ in range(4):
        with stream.drawing():
            found.append(torch.rand(1))
        with seeded(7):
            torch.rand(3)
    assert torch.equal(torch.cat(found), wanted)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_adaptation_does_not_wait_for_a_fit_that_draws():
    waves, done = make_sinusoids(12, n_rows=8, random_state=0), threading.Event()
    model = mixed_calls.regressor(module=mixed_calls.dropout).fit(waves)

    def adapt():
        model.adapt_many(waves)
        done.set()

    def while_fitting(info):
        threading.Thread(target=adapt).start()
        return done.wait(20)

    mixed_calls.regressor(module=mixed_calls.dropout, callbacks=[while_fitting]).fit(waves)
    assert done.is_set()


def test_quiet_is_of_its_thread_and_of_its_categories():
    inside, said = threading.Event(), threading.Event()

    def silent():
        with quiet(OvershootWarning):
            inside.set()
            said.wait(20)
            warn("not heard", OvershootWarning)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        thread = threading.Thread(target=silent)
        thread.start()
        inside.wait(20)
        warn("heard", OvershootWarning)
        said.set()
        thread.join()
        with quiet(OvershootWarning):
            warn("another", UserWarning)
    assert [str(each.message) for each in heard] == ["heard", "another"]


@pytest.mark.parametrize(
    ("errors", "remembered"),
    [
        ([RuntimeError("CURRENT_PATCHER"), None], "made"),
        ([RuntimeError("one"), RuntimeError("another")], "tried again"),
        ([MemoryError("no room"), MemoryError("no room")], "tried again"),
        ([RuntimeError("no such operation")] * 2, "refused for good"),
    ],
)
def test_only_what_fails_for_good_is_remembered(monkeypatch, errors, remembered):
    waves = make_sinusoids(12, n_rows=8, random_state=0)
    model = mixed_calls.regressor().fit(waves).set_params(compile=True)
    X, y = waves[0].X[:3], waves[0].y[:3]
    make, left = proxy_tensor().make_fx, list(errors)

    def failing(*arguments, **settings):
        error = left.pop(0) if left else None
        if error is not None:
            raise error
        return make(*arguments, **settings)

    monkeypatch.setattr(proxy_tensor(), "make_fx", failing)
    model.adapt(X, y)
    states = [made[1] is not None for made in serving._adapters.get(model._network.forward, {}).values()]
    assert states == {"made": [True], "tried again": [], "refused for good": [False]}[remembered]
    model.adapt(X, y)
    assert [made[1] is not None for made in serving._adapters[model._network.forward].values()] == [
        remembered != "refused for good"
    ]


def proxy_tensor():
    import torch.fx.experimental.proxy_tensor as module

    return module


def test_interrupts_of_tracing_are_not_swallowed(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(proxy_tensor(), "make_fx", interrupted)
    with pytest.raises(KeyboardInterrupt):
        CompiledFunction(lambda x: [x + 1], [torch.zeros(2)], [False])
    monkeypatch.undo()
    assert (
        CompiledFunction(lambda x: [x + 1], [torch.zeros(2)], [False])([np.zeros((3, 2), "float32")], 3)[0].sum() == 6
    )


def test_a_failure_of_a_moment_is_an_unsupported_one_for_who_does_not_ask():
    assert issubclass(MomentaryError, UnsupportedError)
    with pytest.raises(UnsupportedError, match="torch cannot trace it"):
        graph.graph_of(lambda x: [x if bool(x.sum() > 0) else -x], [torch.zeros(2)], [False])


SCRIPT = """
import logging, os, random, signal, sys, threading, warnings
import numpy as np, pandas, scipy.optimize, scipy.stats, sklearn.metrics, torch, tqdm.auto

def state():
    handlers = {s: signal.getsignal(s) for s in signal.valid_signals()}
    return (dict(os.environ), list(warnings.filters), torch.get_num_threads(), torch.get_default_dtype(), handlers,
            torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate(), np.geterr(),
            sys.getrecursionlimit(), logging.getLogger().handlers, logging.getLogger().level,
            {t.name for t in threading.enumerate()})

def same(now, what):
    assert now == before, [what, *(pair for pair in zip(before, now) if pair[0] != pair[1])]

before = state()
import metaest, metaest.diagnostics, metaest_datasets
import metaest_domains.kinetics, metaest_domains.physiology, metaest_domains.trading
same(state(), "importing metaest")
assert not {"starlette", "uvicorn", "prometheus_client"} & set(sys.modules), "metaest needs a server"
def decayed(X, k):
    return torch.exp(-k * X[:, 0])

def summed(X, k):
    return torch.cumsum(torch.exp(-k * X[:, 0]), 0)

rng, hours = np.random.default_rng(0), np.linspace(0.1, 3, 8)
for equation in (decayed, summed):
    tasks = []
    for k in np.exp(0.3 * rng.standard_normal(4)):
        curve = equation(torch.from_numpy(hours[:, None]), float(k)).numpy()
        tasks.append((hours[:, None], curve + 0.05 * rng.standard_normal(8)))
    metaest.EquationRegressor(equation, {"k": metaest.Parameter(1.0, lower=0)}, random_state=0).fit(tasks)
    same(state(), "the first fit of an equation")
waves = metaest_datasets.make_sinusoids(12, n_rows=8, random_state=0)
for compiles in (False, True):
    model = metaest.MAMLRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0, compile=compiles).fit(waves)
    model.adapt(waves[0].X, waves[0].y, guard=True).predict(waves[0].X)
    same(state(), "the first fit")
print("unchanged")
"""


def test_import_and_the_first_fit_leave_the_process_as_it_was():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout == "unchanged\n", done.stderr[-2000:]
    assert done.stderr == ""


def test_a_fit_shows_and_starts_nothing_by_default(capfd):
    MAMLRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0).fit(make_sinusoids(8, n_rows=8, random_state=0))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["network", "classifier", "equation"])
def test_others_change_the_warning_filters_one_thread_at_a_time(name, monkeypatch):
    estimator, tasks = mixed_calls.families()[name]
    enter, outside = warnings.catch_warnings.__enter__, []

    def entered(self):
        frame, inside = sys._getframe(1), False
        while frame is not None:
            inside = inside or frame.f_globals.get("__name__", "").startswith("metaest")
            frame = frame.f_back
        if inside and not exceptions._FILTERS._is_owned():
            outside.append(sys._getframe(1).f_code)
        return enter(self)

    monkeypatch.setattr(warnings.catch_warnings, "__enter__", entered)
    model = estimator.fit(tasks[:-4])
    task = tasks[-1]
    frame = pd.DataFrame(task.X, columns=[f"x{j}" for j in range(task.X.shape[1])])
    predictor = model.adapt(task.X, task.y)
    predictor.score(task.X, task.y)
    model.score(tasks[-4:])
    named = type(model)(**model.get_params()).fit(
        pd.concat([frame] * 6), np.tile(task.y, 6), groups=np.repeat(range(6), len(frame))
    )
    named.adapt(frame, pd.Series(task.y)).predict(frame)
    TaskSet.from_frame(frame.assign(task=0, y=task.y), task="task", target="y").summary()
    if name == "equation":
        model.summary()
    scorer = few_shot_accuracy(2) if name == "classifier" else few_shot_rmse(2)
    scorer(model, tasks[-4:])
    assert outside == []
