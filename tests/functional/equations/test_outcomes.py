"""Laws of outcomes that are not normal: sums to one, slopes, limits, equalities, moments, integrals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from metaest.estimators.equations.outcome_answers import probability_below
from metaest.functional import (
    Bernoulli,
    Binomial,
    Equation,
    GaussNewton,
    HierarchicalModel,
    NegativeBinomial,
    Noise,
    Observations,
    Ordinal,
    PoissonCounts,
    PopulationParameters,
    StudentT,
    TimeToEvent,
    Transforms,
    negative_log_evidence,
)
from metaest.functional.equations.hierarchical import Design, Point
from metaest.functional.equations.noise import Accuracy
from metaest.functional.equations.quadrature_rules import gauss_hermite, gauss_legendre

NONE = torch.zeros(0, dtype=torch.float64)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def rows(X, y=None):
    """Return one task."""
    X = tensor(X)[None]
    y = torch.zeros(X.shape[:2], dtype=torch.float64) if y is None else tensor(y)[None]
    return Observations.stack(X, y, torch.ones_like(y))


KINDS = [
    (Bernoulli(), [0.2, 0.7], range(2), NONE, None),
    (Binomial(trials=0), [0.2, 0.7], range(6), NONE, 5.0),
    (PoissonCounts(), [0.3, 4.0], range(60), NONE, None),
    (NegativeBinomial(), [0.3, 4.0], range(800), tensor([math.log(0.4)]), None),
    (Ordinal(categories=4), [-1.0, 0.8], range(4), tensor([0.3, -0.5]), None),
]
IDS = [kind.kind for kind, *_ in KINDS]


@pytest.mark.parametrize(("outcome", "curve", "values", "constants", "trials"), KINDS, ids=IDS)
def test_probabilities_sum_to_one_and_have_the_moments_that_are_stated(outcome, curve, values, constants, trials):
    y = torch.arange(len(values), dtype=torch.float64)[:, None]
    f = tensor(curve).expand(len(y), -1)
    accuracy = Accuracy() if trials is None else Accuracy(torch.full_like(f, trials))
    p = (-outcome.terms(f, y.expand_as(f), constants, accuracy).loss).exp()
    torch.testing.assert_close(p.sum(dim=0), torch.ones(2, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    observations = rows([[trials or 0.0]] * 2)
    mean = outcome.predicted(tensor(curve)[:, None], observations, constants)[:, 0]
    torch.testing.assert_close((p * y).sum(dim=0), mean, rtol=1e-8, atol=1e-9)
    if outcome.classes is not None:
        each = outcome.probabilities(tensor(curve)[:, None], observations, constants)[:, :, 0]
        torch.testing.assert_close(each, p, rtol=1e-9, atol=1e-12)
    else:
        variance = outcome.variance(
            tensor(curve), constants, Accuracy() if trials is None else Accuracy(tensor([trials]))
        )
        torch.testing.assert_close((p * (y - mean).square()).sum(dim=0), variance, rtol=1e-8, atol=1e-9)
        below = probability_below(outcome, f.numpy(), y.numpy(), trials or 1.0, constants)
        np.testing.assert_allclose(below, p.cumsum(dim=0).numpy(), rtol=1e-8, atol=1e-12)
        # the weight is the mean of the squared slope: Fisher's information
        terms = outcome.terms(f, y.expand_as(f), constants, accuracy)
        torch.testing.assert_close((p * terms.slope.square()).sum(dim=0), terms.weight[0], rtol=1e-6, atol=1e-9)


WITH_Y = [(*kind[:2], 1.0, *kind[3:]) for kind in KINDS] + [
    (Ordinal(categories=4), [-1.0, 0.8], 0.0, tensor([0.3, -0.5]), None),
    (Ordinal(categories=4), [-1.0, 0.8], 3.0, tensor([0.3, -0.5]), None),
    (StudentT(), [0.3, 4.0], 1.0, tensor([-0.3, 1.2]), None),
    (StudentT(degrees_of_freedom=2.5), [0.3, 4.0], 1.0, tensor([-0.3]), None),
    (PoissonCounts(), [0.3, 4.0], 0.0, NONE, 2.5),
]


@pytest.mark.parametrize(("outcome", "curve", "y", "constants", "weight"), WITH_Y)
def test_slopes_are_those_of_the_loss(outcome, curve, y, constants, weight):
    f = tensor(curve).requires_grad_()
    accuracy = Accuracy() if weight is None else Accuracy(torch.full((2,), weight, dtype=torch.float64))
    terms = outcome.terms(f, torch.full_like(f, y), constants, accuracy)
    (slope,) = torch.autograd.grad(terms.loss.sum(), f, create_graph=True)
    torch.testing.assert_close(terms.slope, slope, rtol=1e-10, atol=1e-12)
    assert bool((terms.weight > 0).all())
    if isinstance(outcome, Ordinal):  # there it is the second derivative itself
        (second,) = torch.autograd.grad(slope.sum(), f)
        torch.testing.assert_close(terms.weight, second, rtol=1e-9, atol=1e-12)


def test_a_binomial_of_one_trial_is_bernoullis_distribution():
    f, y = tensor([0.1, 0.9]), tensor([1.0, 0.0])
    one, other = (o.terms(f, y, NONE, Accuracy(torch.ones_like(f))) for o in (Bernoulli(), Binomial(trials=0)))
    for part, same in zip(one, other, strict=True):
        torch.testing.assert_close(part, same, rtol=1e-14, atol=1e-14)


def test_the_negative_binomial_becomes_poissons_as_its_dispersion_vanishes():
    f, y = tensor([0.5, 3.0, 40.0]), tensor([2.0, 0.0, 55.0])
    limit = PoissonCounts().terms(f, y, NONE)
    for part, same in zip(NegativeBinomial().terms(f, y, tensor([math.log(1e-10)])), limit, strict=True):
        torch.testing.assert_close(part, same, rtol=1e-6, atol=1e-7)
    far = abs(NegativeBinomial().terms(f, y, tensor([math.log(0.1)])).loss - limit.loss)
    assert float(far.min()) > 1e-3


def test_students_distribution_becomes_normal_and_is_scipys():
    f, y = tensor([0.5, 3.0]), tensor([2.0, -1.0])
    normal = Noise("additive").terms(f, y, tensor([0.2]))
    many = StudentT(degrees_of_freedom=1e10).terms(f, y, tensor([0.2]))
    torch.testing.assert_close(many.loss, normal.loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(many.slope, normal.slope, rtol=1e-6, atol=1e-6)
    for df in (1.0, 3.7, 399.0, 401.0, 1e5):
        loss = StudentT(degrees_of_freedom=df).terms(f, y, tensor([0.2])).loss
        expected = -stats.t.logpdf(y.numpy(), df, f.numpy(), math.exp(0.2))
        np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-11)


def test_impossible_values_of_an_equation_have_an_infinite_loss():
    one = torch.ones(1, dtype=torch.float64)
    for outcome, f in ((Bernoulli(), 1.2), (Bernoulli(), -0.1), (PoissonCounts(), -1.0), (PoissonCounts(), 0.0)):
        assert float(outcome.terms(tensor([f]), one, NONE).loss) == math.inf
    # rounding of a certain event is none
    certain = Bernoulli().terms(tensor([1.0]), one, NONE)
    assert float(certain.loss) < 1e-15
    assert all(bool(torch.isfinite(part).all()) for part in certain)


@pytest.mark.parametrize(("shape", "rtol"), [(0.5, 1e-6), (0.7, 1e-7), (1.0, 1e-12), (1.5, 1e-9), (3.0, 1e-12)])
def test_the_integral_of_a_hazard_is_that_of_weibulls_distribution(shape, rtol):
    outcome, X = TimeToEvent(time=0), [[0.3], [2.5]]
    given = rows(X, [1.0, 0.0])
    at = outcome.evaluated_at(given)
    hazard = (shape * at.X[:, 0] ** (shape - 1)).reshape(at.y.shape)
    loss = outcome.terms(hazard, at.y, NONE, outcome.accuracy(at)).loss.sum()
    t = np.array(X)[:, 0]
    expected = (t**shape).sum() - np.log(shape * t[0] ** (shape - 1))
    np.testing.assert_allclose(float(loss), expected, rtol=rtol)
    np.testing.assert_allclose(outcome.predicted(hazard, given, NONE)[:, 0], -np.expm1(-(t**shape)), rtol=rtol)


def test_a_unit_that_entered_late_counts_from_then():
    outcome = TimeToEvent(time=0, entry=1)
    at = outcome.evaluated_at(rows([[3.0, 1.0], [2.0, 0.0]]))
    hazard = at.X[:, 0].reshape(at.y.shape)
    loss = outcome.terms(hazard, at.y, NONE, outcome.accuracy(at)).loss
    np.testing.assert_allclose(loss.reshape(-1, 2).sum(dim=0), [(9 - 1) / 2, 4 / 2], rtol=1e-12)


def intercepts(noise, link, X, y):
    """Return a model of one constant that shifts a link, and tasks of it."""

    def curve(X, level):
        return link(level + 0.5 * X[:, 0])

    model = HierarchicalModel(Equation(curve, ["level"]), Transforms((-math.inf,), (math.inf,)), noise)
    mask = torch.ones(y.shape, dtype=torch.float64)
    return model, Observations.stack(X, y, mask)


def most_probable(model, population, design, observations):
    point = Point.of(population, design)
    solver = GaussNewton(tol=1e-20, newton_after=2)
    return solver.solve(model, *point, observations).u


CASES = [
    (Bernoulli(), torch.sigmoid, NONE),
    (Bernoulli(), torch.special.ndtr, NONE),
    (PoissonCounts(), torch.exp, NONE),
    (PoissonCounts(), torch.nn.functional.softplus, NONE),
    (NegativeBinomial(), torch.exp, tensor([-1.0])),
    (Ordinal(categories=3), lambda eta: eta, tensor([0.2])),
    (StudentT(degrees_of_freedom=4.0), lambda eta: eta, tensor([-0.5])),
    (TimeToEvent(time=0), torch.exp, NONE),
]


@pytest.mark.parametrize("n_nodes", [1, 7])
@pytest.mark.parametrize(("noise", "link", "constants"), CASES)
def test_the_gradient_of_the_evidence_is_that_of_differences(noise, link, constants, n_nodes):
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.uniform(0.2, 2.0, (5, 6, 1)))
    y = torch.from_numpy(rng.integers(0, 2, (5, 6)).astype(np.float64))
    model, observations = intercepts(noise, link, X, y)
    design = Design(torch.zeros(1, dtype=torch.int64), torch.ones(1, 5, dtype=torch.float64))

    def evidence(x):
        population = PopulationParameters(x[:1], x[1:2, None], x[2:])
        u = most_probable(model, population.detach(), design, observations)
        return negative_log_evidence(model, population, design, observations, u, n_nodes).sum()

    x = torch.cat([tensor([-0.3, 0.8]), constants]).requires_grad_()
    (gradient,) = torch.autograd.grad(evidence(x), x)
    step = 1e-5 * torch.eye(len(x), dtype=torch.float64)
    with torch.no_grad():
        differences = torch.stack([(evidence(x + h) - evidence(x - h)) / 2e-5 for h in step])
    torch.testing.assert_close(gradient, differences, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(("noise", "link", "constants"), CASES)
def test_quadrature_is_the_integral(noise, link, constants):
    rng = np.random.default_rng(1)
    X = torch.from_numpy(rng.uniform(0.2, 2.0, (3, 4, 1)))
    y = torch.from_numpy(rng.integers(0, 2, (3, 4)).astype(np.float64))
    model, observations = intercepts(noise, link, X, y)
    design = Design(torch.zeros(1, dtype=torch.int64), torch.ones(1, 3, dtype=torch.float64))
    population = PopulationParameters(tensor([-0.3]), tensor([[0.8]]), constants)
    u = most_probable(model, population, design, observations)
    value = -negative_log_evidence(model, population, design, observations, u, 25)
    # a fine sum over the normal distribution of the constant
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    loss = model.losses_at(torch.full((1, 3), -0.3).double(), tensor([[0.8]]), constants, observations, grid[None])
    height = -loss - 0.5 * grid.square() - 0.5 * math.log(2 * math.pi)
    expected = torch.logsumexp(height, dim=1) + math.log(18 / 4000)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    # and Laplace's approximation is near it, which a wrong curvature is not
    laplace = -negative_log_evidence(model, population, design, observations, u)
    assert float((laplace - expected).abs().max()) < 0.06


def test_more_nodes_serve_normal_noise_too():
    rng = np.random.default_rng(2)
    X = torch.from_numpy(rng.uniform(0.2, 2.0, (3, 4, 1)))
    y = torch.from_numpy(rng.standard_normal((3, 4)))
    model, observations = intercepts(Noise("additive"), lambda eta: eta, X, y)
    design = Design(torch.zeros(1, dtype=torch.int64), torch.ones(1, 3, dtype=torch.float64))
    population = PopulationParameters(tensor([-0.3]), tensor([[0.8]]), tensor([0.1]))
    u = most_probable(model, population, design, observations)
    one, several = (negative_log_evidence(model, population, design, observations, u, n) for n in (1, 5))
    torch.testing.assert_close(one, several, rtol=1e-9, atol=1e-9)


def test_draws_have_the_mean_and_the_spread_that_are_stated():
    generator = torch.Generator().manual_seed(0)
    n = 40_000
    for outcome, curve, constants in (
        (Bernoulli(), 0.3, NONE),
        (Binomial(trials=0), 0.3, NONE),
        (PoissonCounts(), 2.5, NONE),
        (NegativeBinomial(), 2.5, tensor([-0.7])),
        (Ordinal(categories=4), 0.4, tensor([0.3, -0.5])),
        (StudentT(degrees_of_freedom=7), 0.4, tensor([0.3])),
        (TimeToEvent(time=0), 0.4, NONE),
    ):
        one = rows([[3.0]])
        f = torch.full(outcome.evaluated_at(one).y.shape, curve, dtype=torch.float64)
        mean = float(outcome.predicted(f, one, constants))
        drawn = outcome.draw(f.expand(-1, n), one.take(torch.zeros(n, dtype=torch.int64)), constants, generator)
        assert drawn.shape == (1, n)
        assert abs(drawn.mean() - mean) < 4 * drawn.std() / math.sqrt(n)
        if not isinstance(outcome, (Ordinal, TimeToEvent)):
            variance = float(outcome.variance(f, constants, outcome.accuracy(one)))
            assert float(drawn.var()) == pytest.approx(variance, rel=0.1)


def test_rules_of_quadrature_are_gausss():
    for n in (1, 2, 5, 20, 60):
        for mine, theirs in (
            (gauss_hermite(n), np.polynomial.hermite_e.hermegauss(n)),
            (gauss_legendre(n), np.polynomial.legendre.leggauss(n)),
        ):
            np.testing.assert_allclose(mine[0], theirs[0], atol=1e-12)
            np.testing.assert_allclose(mine[1], theirs[1], rtol=1e-9, atol=1e-14)


def test_settings_that_make_no_sense_are_refused():
    for df in (0, -1.0, True, "4", math.nan):
        with pytest.raises(ValueError, match="degrees_of_freedom"):
            StudentT(degrees_of_freedom=df)
    assert replace(Binomial(trials="n"), trials=2).trials == 2
