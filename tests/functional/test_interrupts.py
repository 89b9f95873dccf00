"""Work in a thread of its own: its results, its errors, and Ctrl-C while it lasts."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from metaest.functional.interrupts import interrupts_raised, run_in_thread


def test_results_and_errors_come_back():
    assert run_in_thread(lambda: threading.current_thread() is threading.main_thread()) is False
    with pytest.raises(ZeroDivisionError):
        run_in_thread(lambda: 1 / 0)


def test_ctrl_c_is_heard_and_the_work_comes_to_its_end():
    ended = threading.Event()

    def work():
        signal.raise_signal(signal.SIGINT)
        time.sleep(0.5)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        run_in_thread(work)
    assert not ended.is_set()
    assert ended.wait(10)


class Thing:
    pass


def press_where_python_drops_it():
    thing = Thing()
    watched = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    gc.collect()
    return watched


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_interrupt_is_raised_at_the_end():
    before, after = signal.getsignal(signal.SIGINT), []

    @interrupts_raised()
    def work():
        press_where_python_drops_it()
        after.append("went on")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert after == ["went on"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_interrupt_is_more_than_another_error():
    @interrupts_raised()
    def work():
        press_where_python_drops_it()
        raise ValueError("after it")

    with pytest.raises(KeyboardInterrupt):
        work()


def test_without_interrupts_nothing_changes():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="as it came"), interrupts_raised():
        raise ValueError("as it came")
    with interrupts_raised():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_the_users_handler_is_called_and_stays():
    pressed = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        with interrupts_raised():
            signal.raise_signal(signal.SIGINT)
        assert pressed == [signal.SIGINT]
        with interrupts_raised():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGINT)

    def work():
        with interrupts_raised():
            return signal.getsignal(signal.SIGINT)

    assert run_in_thread(work) is before


FIRST_FIT = """
import os, signal, sys, threading, time
import torch
from metaest import MAMLRegressor
from metaest_datasets import make_sinusoids
tasks = make_sinusoids(10, n_rows=8, random_state=0)
def press():
    while "torch._dynamo" not in sys.modules:
        time.sleep(0.001)
    time.sleep({delay})
    os.kill(os.getpid(), signal.SIGINT)
def fit():
    model = MAMLRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0, compile={compile}).fit(tasks)
    assert model.compiled_ is {compile}, model.compiled_reason_
threading.Thread(target=press).start()
try:
    fit()
    print("not interrupted")
except KeyboardInterrupt:
    fit()
    print("interrupted, then fitted")
"""


@pytest.mark.slow
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("delay", [0.1, 0.5, 1.0])
def test_ctrl_c_in_the_first_fit_of_a_process_leaves_it_able_to_fit(delay, compile):
    if compile:
        pytest.importorskip("llvmlite")
    script = FIRST_FIT.format(delay=delay, compile=compile)
    environment = {**os.environ, "METAEST_CACHE_DIR": "off"}
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "interrupted, then fitted" in ran.stdout
