"""Machine code in memory: bounded, alive while it is called; Ctrl-C is heard while LLVM works."""

import ctypes
import gc
import signal
import threading
import time
import weakref

import numpy as np
import pytest
import torch

from metaest import EquationRegressor, MAMLRegressor, Parameter
from metaest.estimators.equations import compiled as equations
from metaest.estimators.networks import compiled as serving
from metaest.jit import CompiledFunction, UnavailableError
from metaest.jit.llvm import compile as llvm
from metaest_datasets import make_avrami_tasks, make_sinusoids

pytest.importorskip("llvmlite")


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setenv("METAEST_CACHE_DIR", "off")
    llvm._libraries.clear()
    yield
    llvm._libraries.clear()


def scaled(factor):
    return CompiledFunction(lambda x: [factor * torch.tanh(x)], [torch.zeros(())], [False])


def text(name):
    return f"define double @{name}(double %x) {{\n  %y = fmul double %x, 2.0\n  ret double %y\n}}\n"


def test_code_is_linked_and_called():
    double = llvm.compile_function(text("twice"), "twice", [ctypes.c_double], ctypes.c_double)
    assert double(21.0) == 42.0


def test_a_library_calls_what_the_process_has():
    ir = "declare double @cbrt(double)\ndefine double @root(double %x) {\n  %y = call double @cbrt(double %x)\n  ret double %y\n}\n"
    root = llvm.compile_function(ir, "root", [ctypes.c_double], ctypes.c_double)
    assert root(27.0) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "ir", ["no code at all", "define void @f() {\n  ret i32 1\n}\n", "declare void @g_that_is_nowhere()"]
)
def test_what_llvm_refuses_is_said(ir):
    if "nowhere" in ir:
        ir += "\ndefine void @f() {\n  call void @g_that_is_nowhere()\n  ret void\n}\n"
    with pytest.raises(UnavailableError, match="LLVM refuses"):
        llvm.compile_function(ir, "f", [])
    assert scaled(2)([[1.0]], 1)[0] == pytest.approx(2 * np.tanh(1.0), rel=1e-6)


def test_libraries_are_bounded_in_number(monkeypatch):
    monkeypatch.setattr(llvm, "MOST_LIBRARIES", 3)
    functions = [llvm.compile_function(text(f"f{i}"), f"f{i}", [ctypes.c_double], ctypes.c_double) for i in range(6)]
    assert len(llvm._libraries) == 3
    libraries = [weakref.ref(function.library) for function in functions]
    assert [function(float(i)) for i, function in enumerate(functions)] == [2.0 * i for i in range(6)]
    del functions
    gc.collect()
    assert [library() is None for library in libraries] == [True] * 3 + [False] * 3


def test_libraries_are_bounded_in_bytes(monkeypatch):
    llvm.compile_function(text("f0"), "f0", [ctypes.c_double], ctypes.c_double)
    [library] = llvm._libraries.values()
    monkeypatch.setattr(llvm, "MOST_BYTES", 2 * library.size + library.size // 2)
    for i in range(1, 5):
        llvm.compile_function(text(f"f{i}"), f"f{i}", [ctypes.c_double], ctypes.c_double)
    assert len(llvm._libraries) == 2


def test_the_same_text_is_one_library():
    first, second = (llvm.compile_function(text("f"), "f", [ctypes.c_double], ctypes.c_double) for _ in range(2))
    assert first.library is second.library


def test_memory_of_code_is_given_back():
    scaled(0)
    unused = llvm._Library.unused
    before = len(unused)
    llvm._libraries.clear()
    gc.collect()
    assert len(unused) == before + 1
    scaled(1)
    assert not unused


def interrupt_code_generation(monkeypatch, nth=1):
    """Press Ctrl-C while LLVM makes the n-th piece of code, which then takes a second more."""
    make, seen, ended = llvm._code_of, [], threading.Event()

    def slow(text, machine):
        seen.append(text)
        if len(seen) == nth:
            signal.raise_signal(signal.SIGINT)
            time.sleep(1)
            ended.set()
        return make(text, machine)

    monkeypatch.setattr(llvm, "_code_of", slow)
    return ended


def avrami(X, k, n):
    return 1 - torch.exp(-((k * X[:, 0]) ** n))


def fit_network():
    tasks = make_sinusoids(10, n_rows=8, random_state=0)
    return MAMLRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0, compile=True).fit(tasks)


def network():
    return torch.cat([value.flatten() for value in fit_network()._params.values()]).tolist()


@pytest.fixture(scope="module")
def model():
    return fit_network()


def equation():
    curves, _ = make_avrami_tasks(8, random_state=0)
    constants = {"k": Parameter(1.0, lower=0), "n": Parameter(1.5, lower=0)}
    model = EquationRegressor(avrami, constants, compile=True, max_iter=2).fit(curves)
    assert model.compiled_, model.compiled_reason_
    return model.adapt(curves[0].X, curves[0].y).predict(curves[1].X).tolist()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::metaest.IdentifiabilityWarning")
@pytest.mark.parametrize("work", [network, equation])
def test_ctrl_c_is_heard_while_llvm_works(monkeypatch, work):
    expected = work()
    llvm._libraries.clear()
    equations._row_programs.clear()
    with monkeypatch.context() as patch:
        ended = interrupt_code_generation(patch, nth=2)
        with pytest.raises(KeyboardInterrupt):
            work()
        assert not ended.is_set(), "nobody waits for LLVM after Ctrl-C"
        assert work() == expected, "while the first code is still being made"
        assert ended.wait(30)


@pytest.mark.parametrize("many", [False, True])
def test_ctrl_c_is_heard_while_an_adaptation_is_compiled(monkeypatch, model, many):
    tasks = make_sinusoids(3, n_rows=5 + many, random_state=1)

    def adapted():
        predictor = model.adapt_many(tasks) if many else model.adapt(tasks[0].X, tasks[0].y)
        return predictor.predict(tasks[1].X)

    with monkeypatch.context() as patch:
        interrupt_code_generation(patch)
        with pytest.raises(KeyboardInterrupt):
            adapted()
    compiled = adapted()
    monkeypatch.setattr(model, "compile", False)
    np.testing.assert_allclose(compiled, adapted(), rtol=1e-4, atol=1e-4)


def test_a_thread_that_is_no_longer_waited_for_leaves_its_code_on_disk(monkeypatch, tmp_path):
    monkeypatch.setenv("METAEST_CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as patch:
        interrupt_code_generation(patch)
        with pytest.raises(KeyboardInterrupt):
            scaled(5)
        for thread in threading.enumerate():
            if thread.name == "metaest-work":
                thread.join()
    monkeypatch.setattr(llvm, "_code_of", None)  # it is not called again
    assert scaled(5)([[1.0]], 1)[0] == pytest.approx(5 * np.tanh(1.0), rel=1e-6)


def test_adapters_of_a_network_are_bounded_and_end_with_it(monkeypatch):
    monkeypatch.setattr(serving, "MOST_PROGRAMS", 2)
    model, tasks = fit_network(), make_sinusoids(2, n_rows=10, random_state=1)
    forward = model._network.forward

    supports = [(tasks[0].X[:n], tasks[0].y[:n]) for n in (1, 2, 3)]
    first = [model.adapt(*support).predict(tasks[1].X) for support in supports]
    assert [key[0] for key in serving._adapters[forward]] == [2, 3]
    again = [model.adapt(*support).predict(tasks[1].X) for support in supports]
    np.testing.assert_array_equal(again, first)
    gone = weakref.ref(forward)
    del model, forward
    gc.collect()
    assert gone() is None
