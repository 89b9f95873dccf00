"""Observations below a limit of quantification."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from metaest import CorrelatedResidualsWarning, EquationRegressor, Parameter, TaskError, TaskSet
from metaest.functional import Noise

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")


@pytest.mark.parametrize("kind", ["additive", "proportional", "combined", "combined1", "power"])
def test_terms_of_censored_observations(kind):
    noise = Noise(kind, 0.01, limit=0.5)
    log_sigma = torch.tensor(
        [-1.0, -1.5] if kind.startswith("combined") else [-1.0, 0.7] if kind == "power" else [-1.0]
    ).double()
    f = torch.linspace(-1, 3, 9).double().requires_grad_()
    y = torch.tensor([0.0, 0.4, 0.1, 0.0, 0.3, 0.2, 0.6, 2.0, 0.49]).double()
    terms = noise.terms(f, y, log_sigma)
    sd = noise.variance(f, log_sigma).sqrt().detach().numpy()
    at, seen = f.detach().numpy(), y.numpy() >= 0.5
    expected = np.where(seen, -norm.logpdf(y, at, sd), -norm.logcdf(0.5, at, sd))
    np.testing.assert_allclose(terms.loss.detach(), expected, rtol=1e-12)
    (slope,) = torch.autograd.grad(terms.loss.sum(), f)
    np.testing.assert_allclose(terms.slope.detach(), slope, rtol=1e-10)
    assert (terms.weight >= 0).all()


def test_far_above_the_limit_is_finite():
    noise = Noise("additive", limit=0.0)
    terms = noise.terms(torch.tensor([1e3]).double(), torch.tensor([-1.0]).double(), torch.tensor([0.0]).double())
    assert float(terms.loss) == pytest.approx(1e6 / 2, rel=1e-4)
    assert float(terms.slope) == pytest.approx(1e3, rel=1e-4)
    assert float(terms.weight) == pytest.approx(1, rel=1e-3)


def decay(X, rate, start):
    return start * torch.exp(-rate * X[:, 0])


CONSTANTS = {"rate": Parameter(0.5, lower=0), "start": Parameter(8, lower=0)}
LIMIT = 1.0


def patients(n, seed, limit=None):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(n):
        t = np.linspace(0.5, 10, 10)
        y = 10 * np.exp(0.2 * rng.normal() - 0.4 * np.exp(0.2 * rng.normal()) * t) + 0.3 * rng.normal(size=10)
        pairs.append((t[:, None], y if limit is None else np.where(y < limit, 0.0, y)))
    return TaskSet(pairs)


def test_rate_is_not_biased_by_the_limit():
    censored = patients(60, 0, LIMIT)
    assert (censored.y == 0).mean() > 0.3
    with_limit = EquationRegressor(decay, CONSTANTS, limit=LIMIT).fit(censored)
    with pytest.warns(CorrelatedResidualsWarning):  # zeros in a row are no decay
        ignorant = EquationRegressor(decay, CONSTANTS).fit(censored)
    full = EquationRegressor(decay, CONSTANTS).fit(patients(60, 0))
    rate = {name: m.population_.loc["rate", "value"] for name, m in
            (("limit", with_limit), ("numbers", ignorant), ("full", full))}  # fmt: skip
    assert abs(rate["limit"] - rate["full"]) < 0.02
    assert abs(rate["numbers"] - rate["full"]) > 3 * abs(rate["limit"] - rate["full"])
    assert with_limit.noise_["sd"] == pytest.approx(0.3, rel=0.15)


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")  # values at the limit are no decay
def test_values_that_equal_the_limit_are_asked_about():
    tasks = patients(8, 0, LIMIT)
    at_limit = TaskSet([(task.X, np.where(task.y == 0, LIMIT, task.y)) for task in tasks])
    n = int((tasks.y == 0).sum())
    with pytest.warns(
        UserWarning, match=f"fit: {n} observations equal limit=1, which counts as measured; .* lower number"
    ):
        EquationRegressor(decay, CONSTANTS, limit=LIMIT).fit(at_limit)
    model = EquationRegressor(decay, CONSTANTS, limit=LIMIT).fit(tasks)
    new = at_limit[0]
    n = int((new.y == LIMIT).sum())
    for call in (lambda: model.adapt(new.X, new.y), lambda: model.adapt_many([new]),
                 lambda: model.adapt(new.X[:1], new.y[:1]).partial_adapt(new.X[1:], new.y[1:])):  # fmt: skip
        with pytest.warns(UserWarning, match=f"adapt.*: {n} observations? equals? limit=1"):
            call()


@pytest.mark.parametrize("noise", ["additive", "proportional", "combined", "power", "lognormal"])
@pytest.mark.filterwarnings("ignore")
def test_number_below_the_limit_does_not_matter(noise):
    zeros = patients(20, 0, LIMIT)
    zeros, held_out = TaskSet(zeros[:14]), TaskSet(zeros[14:])
    results = [answers(noise, code_of(zeros, code), code_of(held_out, code)) for code in (0.0, LIMIT / 2, -1e30)]
    for other in results[1:]:
        for name, value in results[0].items():
            np.testing.assert_allclose(other[name], value, rtol=1e-9, err_msg=name)


def code_of(tasks, code):
    return TaskSet([(t.X, np.where(t.y < LIMIT, code, t.y)) for t in tasks])


def answers(noise, tasks, held_out):
    """Whatever a number below the limit could reach."""
    model = EquationRegressor(decay, CONSTANTS, noise=noise, limit=LIMIT, random_state=0).fit(tasks)
    X, y = held_out[0].X, held_out[0].y
    assert (y < LIMIT).any()
    adapted = model.adapt(X[::3], y[::3], guard=True)
    again = adapted.partial_adapt(X[1::3], y[1::3])
    model.calibrate(held_out, support_size=2)
    return {
        "population": model.population_["value"],
        "noise": model.noise_,
        "log-likelihood": model.log_likelihood_,
        "score": model.score(held_out),
        "adapted": adapted.params_["value"],
        "guard": [adapted.guard_.share, adapted.guard_.population_rmse],
        "again": again.predict_interval(X),
        "many": model.adapt_many(held_out).params_["rate"],
        "conformal": model.predict_interval(X, 0.8, method="conformal"),
    }


def test_a_prediction_below_the_limit_is_no_error_where_the_observation_lies_there_too():
    tasks = patients(20, 0, LIMIT)
    model = EquationRegressor(decay, CONSTANTS, limit=LIMIT, random_state=0).fit(tasks)
    low = TaskSet([(t.X[-3:], np.zeros(3)) for t in tasks])
    assert (model.predict(low[0].X) < LIMIT).all()
    assert model.score(low) == 1.0


def test_a_patient_with_nothing_above_the_limit():
    model = EquationRegressor(decay, CONSTANTS, limit=LIMIT).fit(patients(30, 0, LIMIT))
    low = model.adapt([[1.0], [2.0]], [0.0, 0.0])
    assert low.predict([[1.0]])[0] < model.predict([[1.0]])[0]
    assert np.isfinite(low.predict_interval([[1.0]])).all()


def test_what_a_limit_refuses():
    with pytest.raises(TaskError, match="all 40 observations lie below limit=20"):
        EquationRegressor(decay, CONSTANTS, limit=20.0).fit(patients(4, 0))
    with pytest.raises(ValueError, match="limit needs objective='evidence'"):
        EquationRegressor(decay, CONSTANTS, limit=1.0, objective="query").fit(patients(4, 0))


def test_mean_of_the_curves_and_simulation():
    tasks = patients(30, 0)
    model = EquationRegressor(decay, CONSTANTS).fit(tasks)
    X = tasks[0].X
    for predictor in (model, model.adapt(X[:1], tasks[0].y[:1])):
        draws = predictor.simulate(X, 4000, random_state=0)
        assert draws.shape == (4000, 10)
        error = 4 * draws.std(axis=0) / 4000**0.5
        np.testing.assert_array_less(np.abs(draws.mean(axis=0) - predictor.predict_mean(X)), error)
        low, high = predictor.predict_interval(X, level=0.8)
        assert ((low <= draws) & (draws <= high)).mean() == pytest.approx(0.8, abs=0.02)
        np.testing.assert_array_equal(
            predictor.simulate(X, 3, random_state=1), predictor.simulate(X, 3, random_state=1)
        )
