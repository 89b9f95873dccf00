"""Rows that a constant does not move, and padding: neither may make a derivative NaN."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from metaest import EquationRegressor, Parameter, TaskSet
from metaest.functional import Equation, Observations

T = torch.linspace(0, 4, 6, dtype=torch.float64)
THETA = torch.tensor([[0.8, 1.3], [0.6, 0.4], [0.2, 0.1]], dtype=torch.float64)


def power(X, k, n, base):
    return base + (1 - base) * (1 - torch.exp(-((k * X[:, 0]) ** n)))


def by_logarithm(X, k, n, base):
    return base + (1 - base) * (1 - torch.exp(-torch.exp(n * torch.log(k * X[:, 0]))))


def hill(X, k, n, base):
    x = X[:, 0] ** (1 + n)
    return base * torch.sqrt(n * X[:, 0]) + x / (k ** (1 + n) + x)


def after_a_lag(X, k, n, base):
    """The classic: the branch that is not taken has a NaN derivative."""
    return torch.where(X[:, 0] > base + 0.5, (k * (X[:, 0] - base - 0.5)) ** n, 0.0)


def over_rows(X, k, n, base):
    """An integral over the rows before: at 0 the second derivative in k is not finite, and is in all later rows."""
    t = X[:, 0]
    return base + torch.cumsum((k * t) ** (1 + n) * torch.diff(t, prepend=t[:1]), 0)


def over_steps(X, k, n, base):
    """Rates of change: 0 / 0 where time stands still."""
    t = X[:, 0]
    y = n * torch.exp(-k * t)
    return base + torch.cat([0 * y[:1], torch.diff(y) / torch.diff(t)])


def rows_of(times):
    longest = max(map(len, times))
    mask = torch.tensor([[1.0] * len(t) + [0.0] * (longest - len(t)) for t in times]).double()
    X = torch.stack([torch.cat([t, t[-1:].expand(longest - len(t))]) for t in times])[..., None]
    return Observations.stack(X, torch.zeros_like(mask), mask)


PADDED = rows_of([T, T[:4]])
CASES = [(function, mode) for function in (power, by_logarithm, hill, after_a_lag) for mode in ("rows", "vmap", "loop")]
CASES += [(function, mode) for function in (over_rows, over_steps) for mode in ("vmap", "loop")]


@pytest.mark.parametrize(("function", "mode"), CASES)
def test_first_and_second_derivatives(function, mode):
    """Equal to differences of values, and of slopes."""
    equation = Equation(function, ["k", "n", "base"], mode)
    row = PADDED.mask > 0
    coefficients = torch.linspace(0.5, 1.5, 6, dtype=torch.float64)[:, None]

    def scalar(theta, *, differentiable=False):
        values, slopes = equation.values_and_slopes(theta, PADDED, differentiable=differentiable)
        parts = [values, *((k + 1) * slope for k, slope in enumerate(slopes))]
        return sum(torch.where(row, coefficients * part, 0.0).sum() for part in parts)

    values, slopes = equation.values_and_slopes(THETA, PADDED)
    leaf = THETA.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(scalar(leaf, differentiable=True), leaf)
    for k in range(3):
        h = 1e-5
        up, down = THETA.clone(), THETA.clone()
        up[k] += h
        down[k] -= h
        difference = (equation.values(up, PADDED) - equation.values(down, PADDED)) / (2 * h)
        assert_close(slopes[k][row], difference[row], rtol=1e-6, atol=1e-8)
        for task in range(2):
            one_up, one_down = THETA.clone(), THETA.clone()
            one_up[k, task] += h
            one_down[k, task] -= h
            assert_close(gradient[k, task], (scalar(one_up) - scalar(one_down)) / (2 * h), rtol=1e-5, atol=1e-7)
    assert torch.isfinite(values[row]).all()


def plates(n=10, rows=8):
    """Curves with an exponent of a half that begin at 0, of two lengths."""
    rng, t, pairs = np.random.default_rng(1), np.r_[0.0, np.linspace(0.2, 6, rows)], []
    for i in range(n):
        y = 1 - np.exp(-((0.7 * np.exp(0.2 * rng.normal()) * t) ** 0.5)) + 0.01 * rng.normal(size=len(t))
        pairs.append((t[: len(t) - i % 2, None], y[: len(t) - i % 2]))
    return TaskSet(pairs)


PARAMETERS = {"k": Parameter(1.0, lower=0), "n": Parameter(0.8, lower=0)}


@pytest.mark.filterwarnings("ignore")
def test_every_way_of_batching_fits_the_same():
    def rows(X, k, n):
        return 1 - torch.exp(-((k * X[:, 0]) ** n))

    def mapped(X, k, n):
        return rows(X, k, n) + 0 * torch.cumsum(k * X[:, 0], 0) * X[:1, 0] + 1e-3 * X[0, 0] * k

    def looped(X, k, n):
        return rows(X, k, n) if k > 0 else 0 * X[:, 0] + k

    fits = {}
    for name, equation, compiled in (
        ("rows", rows, False), ("rows", rows, True), ("vmap", mapped, False), ("loop", looped, False)
    ):  # fmt: skip
        model = EquationRegressor(equation, PARAMETERS, compile=compiled, random_state=0).fit(plates())
        assert model.compiled_ == compiled
        if name != "vmap":  # X[0, 0] is 0 in every task, which the probe may or may not see
            assert model.batching_ == name
        fits[name, compiled] = model
    expected = fits["rows", False]
    for model in fits.values():
        np.testing.assert_allclose(model.population_["value"], expected.population_["value"], rtol=1e-5)
        assert model.log_likelihood_ == pytest.approx(expected.log_likelihood_, abs=1e-6)
        got, wanted = (m.adapt([[0.0], [1.0], [3.0]], [0.0, 0.6, 0.75]).params_ for m in (model, expected))
        np.testing.assert_allclose(got["value"], wanted["value"], rtol=1e-5)
    assert expected.population_["value"].tolist() == pytest.approx([0.7, 0.5], rel=0.15)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("meta_gradient", ["exact", "first-order"])
def test_gradient_steps_from_a_row_that_stands_still(meta_gradient):
    model = EquationRegressor(
        lambda X, k, n: 1 - torch.exp(-((k * X[:, 0]) ** n)),
        PARAMETERS,
        objective="query",
        inner_solver="gradient",
        meta_gradient=meta_gradient,
        max_iter=20,
        random_state=0,
    ).fit(plates())
    assert np.isfinite(model.adapt([[0.0], [1.0]], [0.0, 0.6]).predict([[0.0], [2.0]])).all()


@pytest.mark.filterwarnings("ignore")
def test_lengths_do_not_matter_to_an_integral_over_rows():
    """A heated sample, as short as half of the longest: what padding gives overflows where it jumps back."""

    def heated(X, k):
        t = X[:, 0]
        rate = k * torch.exp((t - 900) / 10)
        area = torch.cumsum(torch.cat([0 * rate[:1], (rate[1:] + rate[:-1]) / 2 * torch.diff(t)]), 0)
        return 1 - torch.exp(-area)

    rng, t = np.random.default_rng(0), np.r_[0.0, np.linspace(840, 900, 24)]
    curves = []
    for _ in range(8):
        rate = 0.2 * np.exp(0.2 * rng.normal()) * np.exp((t - 900) / 10)
        area = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2 * np.diff(t))])
        curves.append((t[:, None], 1 - np.exp(-area) + 0.01 * rng.normal(size=len(t))))
    tasks = TaskSet([(X[: 25 - 4 * (i % 3)], y[: 25 - 4 * (i % 3)]) for i, (X, y) in enumerate(curves)])
    model = EquationRegressor(heated, {"k": Parameter(0.2, lower=0)}, random_state=0).fit(tasks)
    assert model.batching_ == "vmap"

    def alone(X, k):
        return heated(X, k) if k > 0 else 0 * X[:, 0] + k

    loop = EquationRegressor(alone, {"k": Parameter(0.2, lower=0)}, random_state=0).fit(tasks)
    assert loop.batching_ == "loop"
    np.testing.assert_allclose(model.population_["value"], loop.population_["value"], rtol=1e-6)
    assert model.log_likelihood_ == pytest.approx(loop.log_likelihood_, abs=1e-6)
