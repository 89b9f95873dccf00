"""Posteriors with several modes: the fit finds the right valleys, and intervals know of the other ones."""

import numpy as np
import pytest
import torch

from equations import avrami, avrami_tasks
from metaest import EquationRegressor, Parameter
from metaest.estimators.equations.draws import deviation

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
WAVE = {"a": Parameter(1.0, lower=0), "w": Parameter(3.0, lower=0)}


def wave(X, a, w):
    """Sines of different frequency: the likelihood of one curve has many maxima in w."""
    return a * torch.sin(w * X[:, 0])


def wave_tasks(seed):
    rng = np.random.default_rng(seed)
    tasks = []
    for _ in range(60):
        t, (a, w) = np.sort(rng.uniform(0, 3, 12)), np.exp([0.2, 0.5] * rng.standard_normal(2) + [0.0, np.log(3.0)])
        tasks.append((t[:, None], a * np.sin(w * t) + 0.05 * rng.standard_normal(12)))
    return tasks


@pytest.fixture(scope="module")
def model():
    return EquationRegressor(wave, WAVE).fit(wave_tasks(0))


@pytest.mark.parametrize("initial", [1.0, 8.0])
def test_tasks_in_side_valleys_do_not_pass_for_noise(model, initial):
    error = (model.population_["scaled_value"] - [0.0, np.log(3.0)]) / model.population_["scaled_standard_error"]
    assert (np.abs(error) < 3).all()
    assert model.noise_["sd"] == pytest.approx(0.05, rel=0.1)
    np.testing.assert_allclose(model.population_["scaled_sd"], [0.2, 0.5], rtol=0.3)
    other = EquationRegressor(wave, {**WAVE, "w": Parameter(initial, lower=0)}).fit(wave_tasks(0))
    assert other.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-3)


@pytest.mark.parametrize("rows", [[1.5], [1.5, 2.5], [2.0, 2.8]])
def test_draws_follow_a_posterior_of_several_modes(model, rows):
    """Against the posterior on a grid; the population's own uncertainty, small here, is left out of both."""
    t, y = np.array(rows), np.sin(4 * np.array(rows)) + 0.03
    adapted = model.adapt(t[:, None], y)
    calibrated = model._fitted
    one, two = np.meshgrid(np.linspace(-6, 6, 601), np.linspace(-6, 6, 2401), indexing="ij")
    u = np.stack([one.ravel(), two.ravel()])
    a, w = np.exp(calibrated.population.beta.numpy()[:, None] + calibrated.population.factor.numpy() @ u)
    squares = np.square((y[:, None] - a * np.sin(w * t[:, None])) / model.noise_["sd"])
    weight = np.exp(-0.5 * squares.sum(axis=0) - 0.5 * np.square(u).sum(axis=0))
    order = w.argsort()
    share = weight[order].cumsum() / weight.sum()
    for column, level in (("lower_90", 0.05), ("upper_90", 0.95)):
        end = float(adapted.params_.loc["w", column])
        assert abs(share[np.searchsorted(w[order], end)] - level) < 0.02
    assert adapted.laplace_share_ < 0.9


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_narrow_posterior_is_normal():
    tasks = avrami_tasks(30, seed=0)[0]
    constants = {"k": Parameter(1.0, lower=0), "n": Parameter(1.5, lower=0)}
    model = EquationRegressor(avrami, constants).fit(tasks)
    t = np.linspace(0.1, 2.5, 40)
    adapted = model.adapt(t[:, None], 1 - np.exp(-(t**2)) + 0.02 * np.sin(50 * t))
    assert adapted.laplace_share_ > 0.95
    one_row = model.adapt(t[[10], None], [0.4])
    assert one_row.laplace_share_ < adapted.laplace_share_
    gradient = EquationRegressor(
        avrami, constants, objective="query", inner_solver="gradient", max_iter=5, random_state=0
    ).fit(tasks)
    assert np.isnan(gradient.adapt(t[:3, None], [0.1, 0.1, 0.1]).laplace_share_)


def test_the_start_of_drawing_has_the_same_bits_whatever_memory_held():
    """LAPACK's gelsy reads the order of columns from memory that torch does not set."""
    factor = torch.tensor([[1.9, 0.0, 0.0], [-0.8, 1.3, 0.0], [0.4, -0.7, 2.1]], dtype=torch.float64)
    away = torch.tensor([[0.3], [-1.1], [0.7]], dtype=torch.float64)
    first = deviation(factor, away)
    np.testing.assert_allclose(factor @ first, away, rtol=1e-13)
    generator, filled = np.random.default_rng(0), []
    for _ in range(2000):
        filled.append(torch.ones(generator.integers(1, 9), dtype=torch.int32))
        del filled[: generator.integers(0, 3)]
        assert torch.equal(deviation(factor, away), first)
