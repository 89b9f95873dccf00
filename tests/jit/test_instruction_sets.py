"""Shorter vectors, and processors that know less, give the same numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from metaest import EquationRegressor, MAMLRegressor, Parameter
from metaest.jit.llvm import compile as llvm
from metaest_datasets import make_avrami_tasks, make_sinusoids

binding = pytest.importorskip("llvmlite.binding")
WITHOUT = {256: ("avx512",), 128: ("avx512", "avx2", "avx", "fma", "f16c", "vaes", "vpclmulqdq", "xop")}


@pytest.fixture(params=[256, 128])
def narrow(request, monkeypatch):
    """A processor with vectors of so many bits."""
    known = binding.get_host_cpu_features()
    here = llvm._machine()
    if here.width < request.param:
        pytest.skip("this processor's vectors are shorter")
    text = ",".join(
        ("-" if not there or name.startswith(WITHOUT[request.param]) else "+") + name for name, there in known.items()
    )
    monkeypatch.setattr(llvm, "_machine", lambda: replace(here, width=request.param, features=text))
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fit_is_the_same(narrow, dtype):
    tasks = make_sinusoids(30, random_state=0)
    settings = {"hidden_layer_sizes": (16, 16), "inner_steps": 2, "dtype": dtype, "max_iter": 20, "random_state": 0}
    eager, compiled = (MAMLRegressor(**settings, compile=compiling).fit(tasks) for compiling in (False, True))
    assert compiled.compiled_reason_ == f"{narrow // (32 if dtype == 'float32' else 64)} tasks at a time"
    close = 1e-9 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(compiled.history_["meta_loss"], eager.history_["meta_loss"], rtol=close)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_searches_are_the_same(narrow):
    def avrami(X, k, n):
        return 1 - torch.exp(-((k * X[:, 0]) ** n))

    tasks, _ = make_avrami_tasks(20, random_state=0)
    constants = {"k": Parameter(1.0, lower=0), "n": Parameter(1.5, lower=0)}
    eager, compiled = (
        EquationRegressor(avrami, constants, compile=compiling).fit(tasks) for compiling in (False, True)
    )
    assert compiled.compiled_, compiled.compiled_reason_
    assert compiled.log_likelihood_ == pytest.approx(eager.log_likelihood_, rel=1e-9)
