"""What a fitted equation reports: omega and CV, declared quantities, and means that do not exist."""

import numpy as np
import pytest
import torch

from metaest import EquationRegressor, Parameter, Quantity, TaskSet

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning", "ignore::metaest.UnlikelyTaskWarning")


class Decay:
    """An equation that declares quantities."""

    def __call__(self, X, rate, level):
        return level * torch.exp(-rate * X[:, 0])

    def quantities(self):
        return {
            "half_life": Quantity(lambda rate, level: np.log(2) / rate, "h", "half-life"),
            "area": Quantity(lambda rate, level: level / rate),
        }


def decays(omega=0.4, n=60, seed=0):
    rng = np.random.default_rng(seed)
    at = np.array([[0.5], [1.0], [2.0], [4.0]])
    rates = 0.5 * np.exp(omega * rng.normal(size=n))
    return TaskSet([(at, 10 * np.exp(-rate * at[:, 0]) + 0.05 * rng.normal(size=4)) for rate in rates])


@pytest.fixture(scope="module")
def model():
    constants = {"rate": Parameter(1.0, lower=0), "level": Parameter(8.0)}
    return EquationRegressor(Decay(), constants, random=["rate"]).fit(decays())


def test_omega_and_cv_of_a_lognormal_constant(model):
    population = model.population_
    omega = np.sqrt(model.covariance_.loc["rate", "rate"])
    assert abs(omega - 0.4) < 0.1
    np.testing.assert_allclose(population.loc["rate", ["omega", "scaled_sd"]].astype(float), omega)
    draws = np.exp(omega * np.random.default_rng(0).standard_normal(1_000_000))
    np.testing.assert_allclose(population.loc["rate", "cv"], draws.std() / draws.mean(), rtol=0.01)
    assert np.isnan(population.loc["level", "cv"])
    text = model.summary()
    assert f"{population.loc['rate', 'cv']:.1%}" in text
    assert "half_life" in text


def test_declared_quantities_to_first_order(model):
    derived, population = model.derived_, model.population_
    rate, level = population["value"]
    np.testing.assert_allclose(derived["value"], [np.log(2) / rate, level / rate])
    # the logarithms of half-life and rate have the same standard deviation
    for column in ("standard_error", "between_task_sd"):
        np.testing.assert_allclose(derived.loc["half_life", column] / derived.loc["half_life", "value"],
                                   population.loc["rate", column] / rate, rtol=1e-6)  # fmt: skip
    assert derived["unit"].tolist() == ["h", ""]
    task = model.adapt([[1.0], [3.0]], [6.0, 2.2])
    half_life = task.derived_.loc["half_life"]
    expected = task.derive(lambda rate, level: np.log(2) / rate)
    np.testing.assert_allclose([half_life["value"], half_life["lower_90"], half_life["upper_90"]], expected)
    ends = task.params_.loc["rate", ["upper_90", "lower_90"]].astype(float)
    np.testing.assert_allclose([half_life["lower_90"], half_life["upper_90"]], np.log(2) / ends, rtol=0.01)


def test_an_equation_without_quantities_has_an_empty_table():
    def line(X, slope):
        return slope * X[:, 0]

    rng = np.random.default_rng(0)
    tasks = [(np.arange(1, 5.0)[:, None], rate * np.arange(1, 5.0) + 0.1 * rng.normal(size=4)) for rate in range(8)]
    model = EquationRegressor(line, {"slope": 1.0}).fit(tasks)
    assert len(model.derived_) == len(model.adapt([], []).derived_) == 0


def test_a_mean_that_few_draws_make_up_is_said(model):
    np.testing.assert_allclose(model.predict_mean([[1.0]]), model.predict([[1.0]]), rtol=0.1)
    # 60 half-lives later the mean is that of those who eliminate slowest
    with pytest.warns(UserWarning, match=r"predict_mean: the mean in row 1 is made by a few extreme draws"):
        model.predict_mean([[1.0], [90.0]])
    with pytest.warns(UserWarning, match="few extreme draws"):
        model.adapt([], []).predict_mean([[90.0]])


def test_a_mean_that_does_not_exist_is_said():
    def root(X, a, b):
        return b + torch.sqrt(X[:, 0] - a)

    rng = np.random.default_rng(1)
    at = np.array([[4.0], [5.0], [7.0]])
    tasks = [
        (at, b + np.sqrt(at[:, 0] - a) + 0.01 * rng.normal(size=3)) for a, b in rng.normal(size=(30, 2)) * [0.5, 1]
    ]
    model = EquationRegressor(root, {"a": Parameter(0.1), "b": Parameter(0.0)}).fit(tasks)
    with pytest.warns(UserWarning, match="row 0 the curve is not finite for .* so that its mean does not exist"):
        model.predict_mean([[0.6]])
