"""exp, log, tanh and their like: a few units in the last place from the true value, and the limits right."""

import numpy as np
import pytest
import torch

from metaest.jit import CompiledFunction

pytest.importorskip("llvmlite")
LIMITS = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-30, -1e-30, 1e-42, 88.7, 89.0, -87.4, -100.0, -103.9, 700.0,
          710.0, -708.0, -740.0, -750.0, 0.625, -0.625, 0.5, 1e30]  # fmt: skip
UNITS = {"exp": 1.0, "log": 1.0, "tanh": 1.5, "expm1": 2.5, "log1p": 2.0, "sigmoid": 2.5, "sqrt": 0.51}


def exact(name, x):
    """The true value, in more digits than are asked for."""
    with np.errstate(all="ignore"):
        if name == "sigmoid":
            small = np.exp(-np.abs(x))
            return np.where(x < 0, small, 1) / (1 + small)
        return getattr(np, name)(x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", UNITS)
def test_a_few_units_in_the_last_place(name, dtype):
    if np.finfo(np.longdouble).nmant < 63 and dtype == "float64":
        pytest.skip("no number here has more digits than those tested")
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [LIMITS, rng.uniform(-5, 5, 20_000), rng.uniform(-1e-3, 1e-3, 5_000), rng.uniform(-100, 100, 20_000),
         np.exp(rng.uniform(-80, 80, 20_000))]
    ).astype(dtype)  # fmt: skip
    function = CompiledFunction(
        lambda x: [getattr(torch, name)(x)], [torch.zeros((), dtype=getattr(torch, dtype))], [False]
    )
    [found] = function([x], len(x))
    truth = exact(name, x.astype(np.longdouble))
    with np.errstate(all="ignore"):
        rounded = truth.astype(dtype)
    plain = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~plain], rounded[~plain])
    units = np.abs(found[plain] - truth[plain]) / np.spacing(np.abs(rounded[plain]))
    assert units.max() <= UNITS[name]


@pytest.mark.parametrize("exponent", [-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 2.7])
def test_powers_of_any_base(exponent):
    x = np.array([0.0, 1.0, -1.0, -2.0, 0.3, 5.0, np.inf, 1e-10])
    like = torch.zeros((), dtype=torch.float64)
    fixed = CompiledFunction(lambda x: [x**exponent], [like], [False])
    free = CompiledFunction(lambda x, y: [x**y], [like, like], [False, False])
    with np.errstate(all="ignore"):
        truth = x**exponent
    np.testing.assert_allclose(fixed([x], len(x))[0], truth, rtol=1e-13)
    np.testing.assert_allclose(free([x, np.full_like(x, exponent)], len(x))[0], truth, rtol=1e-13)
