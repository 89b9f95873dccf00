"""Power noise: its special cases, and its constants through a fit, beside nlme's varPower."""

import numpy as np
import pytest
import torch

from metaest import EquationRegressor, Parameter
from metaest.functional import Noise
from metaest.functional.equations.noise import Accuracy
from metaest.tasks import TaskSet
from metaest_datasets import load_orange

F = torch.linspace(-1, 3, 9, dtype=torch.float64)
Y = torch.linspace(0, 2, 9, dtype=torch.float64)
ACCURACY = Accuracy(torch.linspace(0.5, 2, 9, dtype=torch.float64))


@pytest.mark.parametrize("limit", [None, 0.5])
@pytest.mark.parametrize(("power", "kind"), [(0.0, "additive"), (1.0, "proportional")])
def test_power_0_is_additive_and_1_is_proportional(power, kind, limit):
    noise, other = Noise("power", 0.01, limit=limit), Noise(kind, 0.01, limit=limit)
    log_tau = torch.tensor([-1.0], dtype=torch.float64)
    constants = torch.cat([log_tau, torch.tensor([power], dtype=torch.float64)])
    terms = noise.terms(F, Y, constants, ACCURACY)
    expected = other.terms(F, Y, log_tau - power * float(np.log(noise.reference)), ACCURACY)
    for part, wanted in zip(terms, expected, strict=True):
        torch.testing.assert_close(part, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [None, 0.5])
def test_gradients_are_those_of_differences(limit):
    noise = Noise("power", 0.01, limit=limit)
    f, constants = F.clone().requires_grad_(), torch.tensor([-1.0, -0.6], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *given: noise.terms(given[0], Y, given[1], ACCURACY).loss, (f, constants))
    assert torch.autograd.gradcheck(lambda *given: noise.terms(given[0], Y, given[1], ACCURACY).slope, (f, constants))


def test_scaling_leaves_the_power():
    scaled = Noise("power", 0.01).scaled(torch.tensor([-1.0, 0.4]), 2.0)
    assert scaled.tolist() == pytest.approx([1.0, 0.4])


def logistic(X, height, half, width):
    return height / (1 + torch.exp((half - X[:, 0]) / width))


def test_orange_trees_agree_with_nlme():
    # nlme 3.1-162, nlme(y ~ A/(1+exp((h-x)/w)), fixed=A+h+w~1, random=A~1|task, weights=varPower(form=~fitted(.)),
    # method="ML"); it holds its linearisation fixed, and so ends a little lower
    constants = {"height": 200.0, "half": 700.0, "width": 300.0}
    model = EquationRegressor(logistic, constants, random=["height"], noise="power").fit(load_orange())
    assert model.log_likelihood_ == pytest.approx(-131.038, abs=0.02)
    assert model.noise_["power"] == pytest.approx(0.2657, abs=0.01)
    assert model.noise_["sd_at_1"] == pytest.approx(2.321, rel=0.03)
    assert model.population_["value"].tolist() == pytest.approx([191.9, 725.3, 349.8], rel=0.01)
    assert "|f|^0.26" in model.summary()


def growth(n_tasks, seed, scatter):
    rng = np.random.default_rng(seed)
    tasks = []
    for size in np.exp(rng.normal(3, 0.3, n_tasks)):
        X = np.sort(rng.uniform(0.1, 6, (12, 1)), axis=0)
        curve = size * (1 - np.exp(-0.6 * X[:, 0]))
        tasks.append((X, curve + scatter(curve) * rng.standard_normal(12)))
    return TaskSet(tasks)


def saturating(X, size, rate):
    return size * (1 - torch.exp(-rate * X[:, 0]))


SIZES = {"size": Parameter(20, lower=0), "rate": Parameter(1, lower=0)}


def test_a_known_power_is_found_in_any_unit():
    tasks = growth(60, 0, lambda curve: 0.02 * curve**1.5)
    model = EquationRegressor(saturating, SIZES, random=["size"], noise="power").fit(tasks)
    assert model.noise_["power"] == pytest.approx(1.5, abs=0.1)
    assert model.noise_["sd_at_1"] == pytest.approx(0.02, rel=0.2)
    thousand = TaskSet([(task.X, 1000 * task.y) for task in tasks])
    other = EquationRegressor(saturating, {**SIZES, "size": Parameter(20e3, lower=0)}, random=["size"], noise="power")
    other.fit(thousand)
    assert other.noise_["power"] == pytest.approx(model.noise_["power"], rel=1e-5)
    assert other.noise_["sd_at_1"] == pytest.approx(
        1000 ** (1 - other.noise_["power"]) * model.noise_["sd_at_1"], rel=1e-4
    )
    new = growth(1, 1, lambda curve: 0.02 * curve**1.5)[0]
    adapted = model.adapt(new.X[:5], new.y[:5])
    low, high = adapted.predict_interval(new.X)
    curve = adapted.predict(new.X)
    drawn = adapted.simulate(new.X, 4000, random_state=0)
    assert ((drawn > low) & (drawn < high)).mean() == pytest.approx(0.9, abs=0.02)
    narrow, wide = np.argmin(curve), np.argmax(curve)
    assert drawn[:, wide].std() > 3 * drawn[:, narrow].std()


@pytest.mark.parametrize("settings", [{}, {"noise_correlation": "car1"}, {"objective": "query", "random_state": 0}])
def test_other_settings_take_it(settings):
    tasks = growth(25, 2, lambda curve: 0.1 * curve)
    model = EquationRegressor(saturating, SIZES, random=["size"], noise="power", **settings).fit(tasks)
    assert model.noise_["power"] == pytest.approx(1.0, abs=0.4)


def test_weights_scale_the_noise_and_not_the_power():
    tasks = growth(25, 4, lambda curve: 0.1 * curve)
    plain, weighted = (
        EquationRegressor(saturating, SIZES, random=["size"], noise="power").fit(tasks, sample_weight=weight)
        for weight in (None, np.full(len(tasks.X), 4.0))
    )
    assert weighted.noise_["power"] == pytest.approx(plain.noise_["power"], rel=1e-6)
    assert weighted.noise_["sd_at_1"] == pytest.approx(2 * plain.noise_["sd_at_1"], rel=1e-6)
