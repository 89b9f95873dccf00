"""A start far from all sensible values never blames a faultless equation."""

import re
import warnings

import numpy as np
import pytest
import torch

from metaest import EquationRegressor, Parameter, TaskSet
from metaest.functional import Equation
from metaest.functional.equations.probing import check_equation

RNG = np.random.default_rng(2)
TIMES = np.linspace(0.2, 6, 8)[:, None]


def tasks_of(curve):
    constants = np.exp(RNG.normal(0, 0.2, (10, 2)))
    return TaskSet([(TIMES, curve(*values) + 0.01 * RNG.normal(size=8)) for values in constants])


GROWTH = tasks_of(lambda k, n: -np.expm1(-((k * TIMES[:, 0]) ** n)))
DECAY = tasks_of(lambda k, size: size * np.exp(-k * TIMES[:, 0]))


def growth(X, k, n):
    return 1 - torch.exp(-((k * X[:, 0]) ** n))


def decay(X, k, size):
    return size * torch.exp(-k * X[:, 0])


def fitted(equation, tasks, k):
    """Fit from this rate; return the score, and what was warned of."""
    parameters = {"k": Parameter(k, lower=0), "n" if equation is growth else "size": 1.0}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = EquationRegressor(equation, parameters, random_state=0).fit(tasks)
    return model.score(tasks), " ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize("k", [1e-60, 1e-12, 1e-6, 1e6, 1e12])
@pytest.mark.parametrize(("equation", "tasks"), [(growth, GROWTH), (decay, DECAY)])
def test_a_rate_far_off_is_found_or_named(equation, tasks, k):
    score, words = fitted(equation, tasks, k)
    if score < 0.95:
        assert re.search(rf"At the initial values \(k={re.escape(f'{k:.3g}')}.* no curve responds to k", words)
        assert "that of task 0 lies from" in words


def test_rates_within_six_orders_of_magnitude_are_found():
    for k in (1e-6, 1e6):
        assert fitted(growth, GROWTH, k)[0] > 0.95
        assert fitted(decay, DECAY, k)[0] > 0.95


@pytest.mark.parametrize("value", [1e-12, 1.0, 1e12])
def test_a_constant_hidden_from_torch_is_found_from_any_start(value):
    def hidden(X, k, n):
        return 1 - torch.exp(-((k.detach() * X[:, 0]) ** n))

    X = torch.from_numpy(TIMES) / value
    for equation in (growth, hidden):
        tried = Equation(equation, ("k", "n"))
        theta = torch.tensor([value, 1.5], dtype=torch.float64)
        if equation is growth:
            check_equation(tried, theta, X)
        else:
            with pytest.raises(TypeError, match="'k' in a way torch cannot differentiate"):
                check_equation(tried, theta, X)
