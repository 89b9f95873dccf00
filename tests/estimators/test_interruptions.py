"""A fit that is interrupted leaves the estimator as it was, whole; one that ends leaves the new one, whole."""

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import metaest
from ctrl_c import changed, wait_after_ctrl_c
from fits import FITS, ragged
from metaest import DivergenceError, EndOnInterrupt, FewShotRegressor, TaskError
from metaest_datasets import make_market
from metaest_domains.physiology import GlucoseForecaster
from metaest_domains.trading import TradingPolicy

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning"),
    pytest.mark.filterwarnings("ignore::metaest.OvershootWarning"),
]
ROOT = str(Path(metaest.__file__).parent)


# an estimator without checkpoints, which the others have
CURVES = {"curves": (lambda: metaest.HierarchicalGPRegressor(n_starts=1, random_state=0), ragged)}


class InterruptedAt:
    """Raise a KeyboardInterrupt at a line of the package's code, counted from the beginning of a call."""

    def __init__(self, line=None):
        self.line, self.count = line, 0

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        if event == "line":
            self.count += 1
            if self.count == self.line:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self

    def __enter__(self):
        sys.settrace(self)
        return self

    def __exit__(self, *error):
        sys.settrace(None)


# all fits end alike: those that are slow to trace line by line are left to the slow tests
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("compiled network", "JMAK")]


@pytest.mark.parametrize("kind", ["network", "classifier", "policy", "equation", "curves", *SLOW])
def test_interrupts_leave_the_old_estimator_or_the_new_one(kind):
    if kind.startswith("compiled"):
        pytest.importorskip("llvmlite")
    make, tasks = {**FITS, **CURVES}[kind]
    if kind == "equation":  # it is slow to trace, and ends alike after few steps
        make = partial(make, max_iter=3)
    model = make().fit(tasks(0))
    # a calibration of the old fit must not survive it, nor be lost with an interrupted one
    if hasattr(model, "calibrate"):
        model.calibrate(tasks(2), support_size=2)
    old = dict(vars(model))
    with InterruptedAt() as counted:
        model.fit(tasks(1))
    learned = changed(model, old)
    assert len(learned) > 8
    assert not hasattr(model, "calibrate") or "_conformal" in learned
    rng, found = np.random.default_rng(0), []
    for moment in [*rng.integers(1, counted.count, 2).tolist(), *range(counted.count - 5, counted.count + 1)]:
        model.__dict__ = dict(old)
        try:
            with InterruptedAt(moment):
                model.fit(tasks(1))
        except KeyboardInterrupt:
            pass
        found.append(changed(model, old))
    assert found[0] == set()
    assert found[-1] == learned
    assert all(names in (set(), learned) for names in found)


@pytest.mark.parametrize("kind", ["network", "compiled network", "module", "classifier", "policy"])
def test_an_exception_in_a_callback_leaves_the_estimator(kind):
    make, tasks = FITS[kind]
    calls = []

    def fails(info):
        calls.append(info.step)
        if len(calls) in (1, 8):
            raise RuntimeError("disk full")

    model = make(callbacks=[fails])
    with pytest.warns(UserWarning, match="cannot be pickled"), pytest.raises(RuntimeError, match="disk full"):
        model.fit(tasks(0))
    assert vars(model).keys() == make().get_params().keys()
    model.set_params(callbacks=[]).fit(tasks(0))
    model.set_params(callbacks=[fails])
    before = dict(vars(model))
    with pytest.warns(UserWarning, match="cannot be pickled"), pytest.raises(RuntimeError, match="disk full"):
        model.fit(tasks(1))
    assert calls[-1] == 7
    assert not changed(model, before)


def test_what_a_callback_sets_on_the_estimator_stays():
    make, tasks = FITS["network"]
    model = make()

    def note(info):
        model.last_step = info.step

    with pytest.warns(UserWarning, match="cannot be pickled"):
        model.set_params(callbacks=[note]).fit(tasks(0))
    assert model.last_step == model.n_iter_ == 12


def test_a_failed_second_fit_leaves_the_estimator():
    make, tasks = FITS["network"]
    model = make().fit(tasks(0)).calibrate(tasks(2), support_size=2)
    model.adapt(tasks(3)[1].X, tasks(3)[1].y, guard=True)
    model.set_params(meta_lr=1e30, max_grad_norm=None)
    before = dict(vars(model))
    with pytest.raises(DivergenceError):
        model.fit(tasks(1))
    with pytest.raises(TaskError):
        model.fit([(np.ones((3, 2)), [1.0, np.nan, 2.0])])
    assert not changed(model, before)


def test_adapting_as_a_fit_and_fits_of_domains_are_whole():
    make, tasks = FITS["network"]
    few, task = FewShotRegressor(make().fit(tasks(0))), tasks(1)[4]
    few.fit(task.X, task.y)
    prices, more = (make_market(3, 200, random_state=seed)[0] for seed in (0, 1))
    policy = metaest.MAMLPolicy(
        support_size=40, query_size=60, max_iter=3, hidden_layer_sizes=(4,), compile=False, random_state=0
    )
    trader = TradingPolicy(policy).fit(prices)
    readings = [(np.arange(0.0, 3 * 1440, 5), 120 + 30 * np.sin(np.arange(864) / seed)) for seed in (20, 25, 31)]
    forecaster = GlucoseForecaster(n_days=1, max_iter=2, random_state=0).fit(readings[:2])
    for model, data in (
        (few, (tasks(2)[4].X, tasks(2)[4].y)),
        (trader, (more,)),
        (forecaster, (readings[1:],)),
    ):
        before = dict(vars(model))
        with InterruptedAt() as counted:
            model.fit(*data)
        learned = changed(model, before)
        for moment in range(counted.count - 6, counted.count):
            before = dict(vars(model))
            with pytest.raises(KeyboardInterrupt), InterruptedAt(moment):
                model.fit(*data)
            assert changed(model, before) in (set(), learned)


def test_an_interrupted_calibration_leaves_the_one_before():
    make, tasks = FITS["network"]
    model = make().fit(tasks(0)).calibrate(tasks(2), support_size=2)
    old = model._conformal
    with InterruptedAt() as counted:
        model.calibrate(tasks(3), support_size=1)
    model._conformal = old
    for moment in np.linspace(1, counted.count - 1, 5).astype(int):
        with pytest.raises(KeyboardInterrupt), InterruptedAt(moment):
            model.calibrate(tasks(3), support_size=1)
        assert model._conformal is old


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a signal from a thread")
@pytest.mark.parametrize("kind", [*FITS, *CURVES, "guard", "calibrate"])
def test_ctrl_c_at_random_moments_is_heard_at_once(kind):
    make, tasks = {**FITS, **CURVES}.get(kind, FITS["network"])
    model = make().fit(tasks(0))

    def work():
        if kind == "guard":
            model._judges.clear()
            model.adapt(tasks(3)[1].X, tasks(3)[1].y, guard=True)
        elif kind == "calibrate":
            model.calibrate(tasks(3), support_size=(1, 2))
        else:
            model.fit(tasks(1))

    work()
    before, started = dict(vars(model)), time.perf_counter()
    work()
    seconds, learned = time.perf_counter() - started, changed(model, before)
    rng = np.random.default_rng(0)
    for _ in range(5):
        before = dict(vars(model))
        wait = wait_after_ctrl_c(work, float(rng.uniform(0, seconds)))
        assert wait is None or wait < 1
        assert changed(model, before) in (set(), learned)


@pytest.mark.skipif(sys.platform == "win32", reason="signals to the own process")
def test_ctrl_c_may_keep_the_weights_so_far():
    make, tasks = FITS["network"]
    handler = signal.getsignal(signal.SIGINT)

    def press(info):
        if info.step in (5, 7):
            os.kill(os.getpid(), signal.SIGINT)

    for early_stopping in (False, True):
        settings = {"max_iter": 1000, "early_stopping": early_stopping}
        with EndOnInterrupt() as ends, pytest.warns(UserWarning, match="cannot be pickled"):
            model = make(callbacks=[press, ends], **settings).fit(tasks(0))
        assert ends.pressed
        assert model.n_iter_ == 5
        assert signal.getsignal(signal.SIGINT) is handler
    before = dict(vars(model))
    with pytest.warns(UserWarning, match="cannot be pickled"), pytest.raises(KeyboardInterrupt), EndOnInterrupt():
        model.set_params(callbacks=[press]).fit(tasks(1))  # pressed twice
    assert changed(model, before) == {"callbacks"}
    assert signal.getsignal(signal.SIGINT) is handler
