"""The evidence and the searches of a fit from programs of rows, beside torch's."""

import dataclasses

import numpy as np
import pytest
import torch

from metaest import EquationRegressor, Parameter
from metaest.estimators.equations import compiled, row_model
from metaest.estimators.equations.row_model import RowModel
from metaest.estimators.normal_points import normal_points
from metaest.functional import (
    Equation,
    GaussNewton,
    HierarchicalModel,
    Noise,
    Observations,
    PopulationParameters,
    negative_log_evidence,
)
from metaest.functional.equations.hierarchical import Design, Point
from metaest.functional.equations.transforms import Transforms
from metaest.jit import CompiledRows, row_search
from metaest_datasets import make_avrami_tasks

pytest.importorskip("llvmlite")

RNG = np.random.default_rng(3)
NOISES = {"additive": Noise(), "proportional": Noise("proportional", 0.05), "combined": Noise("combined")}
NOISES |= {"power": Noise("power", 0.05), "combined1": Noise("combined1"), "lognormal": Noise("lognormal")}


def avrami(X, k, n):
    return 1 - torch.exp(-((k * X[:, 0]) ** n))


def observations_of(tasks=7, rows=9, *, weighted=False, first=0.1):
    """Return ragged rows of Avrami curves."""
    rng = np.random.default_rng(3)
    X = torch.from_numpy(np.sort(rng.uniform(0.1, 2, (tasks, rows, 1)), axis=1))
    X[:, 0] = first
    k, n = np.exp(0.3 * rng.standard_normal((tasks, 1))), 2 * np.exp(0.2 * rng.standard_normal((tasks, 1)))
    y = 1 - np.exp(-((k * X[..., 0].numpy()) ** n)) + 0.05 * rng.standard_normal((tasks, rows))
    y = y.clip(min=0.005)
    sizes = rng.integers(4, rows + 1, tasks)
    mask = torch.from_numpy((np.arange(rows) < sizes[:, None]).astype(float))
    weight = torch.from_numpy(rng.uniform(0.5, 2, (tasks, rows))) if weighted else None
    return Observations.stack(X, torch.from_numpy(y), mask, weight)


def models(noise, observations, *, lower=(0.0, 0.0)):
    transforms = Transforms(list(lower), [np.inf, np.inf])
    plain = HierarchicalModel(Equation(avrami, ("k", "n"), "rows"), transforms, noise)
    programs = CompiledRows(
        plain, torch.zeros(2).double(), torch.ones(1).double(), weighted=observations.weight is not None
    )
    return plain, RowModel(plain.equation, transforms, noise, programs=programs)


def population_of(noise, random=2):
    factor = torch.tensor([[0.3, 0.0], [0.1, 0.2]], dtype=torch.float64)[:, :random]
    log_sigma = torch.full((noise.n_constants,), -2.5, dtype=torch.float64)
    return PopulationParameters(torch.tensor([0.05, 0.7], dtype=torch.float64), factor, log_sigma)


def design_of(observations):
    return Design(torch.arange(2), torch.ones(2, observations.y.shape[1], dtype=torch.float64))


def evidence_at(model, population, observations):
    center = design_of(observations).center(population.beta, 2)
    u = GaussNewton().solve(model, center, population.factor, population.log_sigma, observations).u
    return model.evidence(center, population.factor, population.log_sigma, observations, u)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NOISES)
def test_a_search_ends_where_torchs_does(name, weighted):
    observations = observations_of(weighted=weighted)
    plain, compiled_model = models(NOISES[name], observations)
    population = population_of(NOISES[name])
    given = design_of(observations).center(population.beta, 2), population.factor, population.log_sigma, observations
    expected, by_rows = GaussNewton().solve(plain, *given), GaussNewton().solve(compiled_model, *given)
    torch.testing.assert_close(by_rows.u, expected.u, rtol=0, atol=1e-3)
    torch.testing.assert_close(by_rows.loss, expected.loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(by_rows.code, expected.code)


@pytest.mark.parametrize("tasks", [1, 7, 21])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NOISES)
def test_one_call_searches_as_numpy_does(name, weighted, tasks):
    observations, noise = observations_of(tasks, weighted=weighted), NOISES[name]
    _, model = models(noise, observations)
    population, rough = population_of(noise), GaussNewton(max_iter=30, tol=1e-4, newton_after=30)
    prior = Point.of(population, design_of(observations))
    start = 0.5 * torch.from_numpy(np.random.default_rng(3).standard_normal((2, tasks)))
    at_once = model._searched_at_once(rough, prior, observations, start)
    in_blocks = model._searched_in_blocks(rough, prior, observations, start)
    for one, other in zip(at_once, in_blocks, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("tasks", [1, 7])
@pytest.mark.parametrize("name", NOISES)
def test_points_are_screened_as_torch_does(name, tasks):
    observations, noise = observations_of(tasks, weighted=name == "combined"), NOISES[name]
    plain, model = models(noise, observations)
    population = population_of(noise)
    given = (
        *Point.of(population, design_of(observations)),
        observations,
        torch.from_numpy(np.random.default_rng(3).standard_normal((2, 5))),
    )
    losses = model.losses_at(*given)
    assert losses.shape == (tasks, 5)
    torch.testing.assert_close(losses, plain.losses_at(*given), rtol=1e-9, atol=1e-9)


def test_numbers_of_padding_do_not_matter():
    observations, noise = observations_of(), NOISES["proportional"]
    _, model = models(noise, observations)
    population = population_of(noise)
    prior = Point.of(population, design_of(observations))
    X = observations.X.T.reshape(-1, *observations.y.shape).clone()
    y = observations.y.clone()
    X[:, observations.mask == 0] = torch.nan
    y[observations.mask == 0] = torch.inf
    spoilt = observations._replace(X=X.reshape(len(X), -1).T, y=y)
    results = [GaussNewton().solve(model, *prior, rows) for rows in (observations, spoilt)]
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_a_call_of_few_tasks_gives_what_one_of_all_gives(monkeypatch):
    observations, noise = observations_of(21), NOISES["combined"]
    _, model = models(noise, observations)
    given = *Point.of(population_of(noise), design_of(observations)), observations
    together = GaussNewton().solve(model, *given)
    losses = model.losses_at(*given, torch.ones(2, 3, dtype=torch.float64))
    monkeypatch.setattr(row_search, "OPERATIONS_PER_CALL", 1)
    apart = GaussNewton().solve(model, *given)
    assert all(torch.equal(one, other) for one, other in zip(together, apart, strict=True))
    assert torch.equal(losses, model.losses_at(*given, torch.ones(2, 3, dtype=torch.float64)))


def test_slopes_that_are_lost_at_a_row_are_mended_where_one_call_searches():
    observations, noise = observations_of(first=0.0), Noise()
    plain, model = models(noise, observations)
    population = population_of(noise)._replace(beta=torch.tensor([0.0, -0.5], dtype=torch.float64))
    given = *Point.of(population, design_of(observations)), observations
    one, other = (GaussNewton().solve(each, *given) for each in (model, plain))
    torch.testing.assert_close(one.loss, other.loss, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.code, other.code)


def test_slopes_at_all_rows_are_torchs():
    observations = observations_of(first=0.0)
    plain, model = models(Noise("proportional", 0.05), observations)
    phi = design_of(observations).center(torch.tensor([0.1, -0.5]).double(), 2)
    for one, other in zip(
        model.curve_and_slopes(phi, observations), plain.curve_and_slopes(phi, observations), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_losses_at_points_are_those_of_the_constants_there():
    observations = observations_of()
    plain, _ = models(Noise(), observations)
    prior = Point.of(population_of(Noise()), design_of(observations))
    points = torch.tensor([[0.0, 1.0, -0.5], [0.3, 0.0, 2.0]]).double()
    losses = plain.losses_at(*prior, observations, points)
    for j in range(3):
        phi = prior.constants(points[:, j : j + 1].expand(2, 7))
        torch.testing.assert_close(losses[:, j], plain.loss(phi, prior.log_sigma, observations))


@pytest.mark.parametrize("n", [3, 21])
@pytest.mark.parametrize("noise", ["additive", "combined"])
def test_losses_of_one_task_are_those_it_has_among_others(n, noise, monkeypatch):
    observations, noise = observations_of(), NOISES[noise]
    _, model = models(noise, observations)
    prior = Point.of(population_of(noise), design_of(observations))
    points = normal_points(32, 2)[:, :n]
    among = model.losses_at(*prior, observations, points)
    for operations in (row_search.OPERATIONS_PER_CALL, 1):
        monkeypatch.setattr(row_search, "OPERATIONS_PER_CALL", operations)
        for t in range(observations.y.shape[1]):
            one = torch.tensor([t])
            alone = model.losses_at(*prior.take(one), observations.take(one), points)
            assert torch.equal(alone[0], among[t])


def test_slopes_that_are_lost_on_the_way_do_not_end_a_search():
    # at the start no slope is lost; later, those of rows before the lag are 0 times infinity
    def lagged(X, a, lag):
        return torch.where(X[:, 0] > lag, a * torch.sqrt(X[:, 0] - lag), 0.0)

    rng = np.random.default_rng(0)
    times, lag = np.linspace(1, 10, 12), 3.3 + 0.4 * rng.standard_normal((8, 1))
    y = 2 * np.sqrt(np.clip(times - lag, 0, None)) + 0.02 * rng.standard_normal((8, 12))
    X = torch.from_numpy(np.tile(times, (8, 1))[..., None])
    observations = Observations.stack(X, torch.from_numpy(y), torch.ones(8, 12, dtype=torch.float64))
    plain = HierarchicalModel(Equation(lagged, ("a", "lag"), "rows"), Transforms([-np.inf] * 2, [np.inf] * 2), Noise())
    programs = CompiledRows(plain, torch.tensor([2.0, 0.5]).double(), torch.ones(1).double(), weighted=False)
    model = RowModel(plain.equation, plain.transforms, plain.noise, programs=programs)
    center = torch.tensor([[2.0], [0.5]]).double().expand(2, 8)
    prior = Point(center, torch.diag(torch.tensor([0.5, 3.0]).double()), torch.tensor([-3.0]).double())
    search = row_search.CompiledRowSearch.of(programs, 2)
    rows = search.rows_of(observations)
    given = prior.center.numpy(), prior.factor.numpy(), model._noise(prior.log_sigma), rows, np.zeros((2, 8))
    *_, lost = search.search(30, 1e-2, *given)
    assert lost.any()
    for solver in (GaussNewton(max_iter=30, tol=1e-2, newton_after=30), GaussNewton()):
        at_once, by_torch = (solver.solve(each, *prior, observations) for each in (model, plain))
        torch.testing.assert_close(at_once.code, by_torch.code)
        torch.testing.assert_close(at_once.loss, by_torch.loss, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("random", [0, 1, 2])
@pytest.mark.parametrize("name", NOISES)
def test_the_evidence_is_torchs_and_its_gradient_that_of_differences(name, random):
    noise, observations = NOISES[name], observations_of(weighted=name == "combined")
    plain, model = models(noise, observations)
    population = population_of(noise, random)
    evidence = evidence_at(model, population, observations)
    expected = negative_log_evidence(
        plain, population, design_of(observations), observations, torch.from_numpy(evidence.u)
    )
    np.testing.assert_allclose(evidence.loss, expected, rtol=1e-7)
    gradient = PopulationParameters(
        torch.from_numpy(evidence.center.sum(axis=1)), torch.from_numpy(evidence.factor),
        torch.from_numpy(evidence.log_sigma),
    )  # fmt: skip
    step = 1e-5
    for field, (part, slope) in enumerate(zip(population, gradient, strict=True)):
        for place in np.ndindex(*part.shape):
            ends = []
            for sign in (1, -1):
                moved = part.clone()
                moved[place] += sign * step
                ends.append(evidence_at(model, population._replace(**{population._fields[field]: moved}), observations))
            difference = (ends[0].loss.sum() - ends[1].loss.sum()) / (2 * step)
            assert float(slope[place]) == pytest.approx(difference, rel=1e-5, abs=1e-5)


def test_tasks_in_blocks_give_what_they_give_together(monkeypatch):
    observations, noise = observations_of(20), NOISES["combined"]
    _, model = models(noise, observations)
    together = evidence_at(model, population_of(noise), observations)
    monkeypatch.setattr(row_model, "BLOCK_ROWS", 25)
    _, model = models(noise, observations)
    assert len(model.blocks(observations)) > 3
    apart = evidence_at(model, population_of(noise), observations)
    # the most probable deviations are polished until no task of a block is further than 1e-6 from its own
    for one, other in zip(together, apart, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_slopes_that_torch_loses_at_zero_are_zero():
    # the slope of (k t)^n at t = 0 is 0 times infinity for n below one
    observations, noise = observations_of(first=0.0), Noise()
    plain, model = models(noise, observations)
    population = population_of(noise)._replace(beta=torch.tensor([0.0, -0.5], dtype=torch.float64))
    evidence = evidence_at(model, population, observations)
    assert evidence is not None
    phi = design_of(observations).center(population.beta, 2)
    for one, other in zip(
        model.information(phi, population.log_sigma, observations),
        plain.information(phi, population.log_sigma, observations),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    moved = evidence_at(model, population._replace(beta=population.beta + 1e-5), observations)
    back = evidence_at(model, population._replace(beta=population.beta - 1e-5), observations)
    slope = (moved.loss.sum() - back.loss.sum()) / 2e-5
    assert evidence.center.sum() == pytest.approx(slope, rel=1e-4)


def test_another_noise_than_that_of_the_programs_is_torchs():
    observations = observations_of()
    plain, model = models(NOISES["proportional"], observations)
    phi, sigma = design_of(observations).center(torch.tensor([0.1, 0.6]).double(), 2), torch.tensor([-1.0]).double()
    other, expected = (dataclasses.replace(each, noise=Noise()) for each in (model, plain))
    for one, two in zip(
        other.information(phi, sigma, observations), expected.information(phi, sigma, observations), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)
    assert other.evidence(phi, torch.zeros(2, 0).double(), sigma, observations, torch.zeros(0, 7).double()) is None


@pytest.mark.parametrize("weighted", [False, True])
def test_weights_that_the_programs_do_not_take_are_torchs(weighted):
    observations = observations_of(weighted=weighted)
    other = observations._replace(weight=None if weighted else torch.full_like(observations.y, 2.0))
    plain, model = models(Noise(), observations)
    phi, sigma = design_of(observations).center(torch.tensor([0.1, 0.6]).double(), 2), torch.tensor([-1.0]).double()
    for rows in (observations, other, observations):
        for one, two in zip(model.information(phi, sigma, rows), plain.information(phi, sigma, rows), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


SCALE = 1.0


def scaled(X, k, n):
    return SCALE * (1 - torch.exp(-((k * X[:, 0]) ** n)))


def fit(equation=avrami, **settings):
    tasks, _ = make_avrami_tasks(12, random_state=0)
    return EquationRegressor(equation, {"k": Parameter(1.0, lower=0), "n": Parameter(1.5, lower=0)}, **settings).fit(
        tasks
    )


def test_fits_of_one_equation_share_its_programs(monkeypatch):
    fit()
    made = []
    programs = compiled.CompiledRows
    monkeypatch.setattr(compiled, "CompiledRows", lambda *a, **k: made.append(1) or programs(*a, **k))
    assert fit().compiled_
    assert not made
    fit(noise="combined")
    assert len(made) == 1


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")  # one of the equations has another shape
def test_programs_follow_what_an_equation_reads_from_its_module(monkeypatch):
    before = fit(scaled)
    monkeypatch.setattr(f"{__name__}.SCALE", 0.5)
    after = fit(scaled)
    assert after.compiled_
    expected = fit(scaled, compile=False)
    assert after.log_likelihood_ == pytest.approx(expected.log_likelihood_, rel=1e-8)
    assert after.log_likelihood_ != pytest.approx(before.log_likelihood_, rel=1e-3)


def test_the_same_fit_has_the_same_bits_first_and_later():
    compiled._row_programs.clear()
    first, later = fit(), fit()
    np.testing.assert_array_equal(first.population_["value"], later.population_["value"])
    assert first.log_likelihood_ == later.log_likelihood_
    assert first.batching_reason_ == later.batching_reason_


def odd(tasks=20):
    """Return tasks of lines in which some rows of some tasks meet another branch than the first ones."""
    pairs = []
    for i in range(tasks):
        X = np.column_stack([np.linspace(1, 4, 8), np.full(8, 2.0 if i in (1, 2, 7) else 1.0)])
        pairs.append((X, 2.0 * np.exp(0.1 * RNG.standard_normal()) * X[:, 0] + 0.1 * RNG.standard_normal(8)))
    return pairs


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")
@pytest.mark.parametrize(
    "curve",
    [
        lambda X, a: a * X[:, 0] * X[:, 1].bool(),
        lambda X, a: a * X[:, 0] * ((X[:, 1] > 1.5) + (X[:, 0] > 0)).double(),
        lambda X, a: a * X[:, 0] * torch.floor(X[:, 1] * 49 / 49),
        lambda X, a: a * X[:, 0] * torch.from_numpy(np.interp(X[:, 1].numpy(), [0, 1.5, 1.6, 9], [1.0, 1.0, 2.0, 2.0])),
    ],
)
def test_what_a_program_would_get_wrong_in_any_row_is_torchs(curve):
    settings = {"parameters": {"a": Parameter(1.5, lower=0)}, "random": ["a"]}
    expected = EquationRegressor(curve, compile=False, **settings).fit(PAIRS)
    assert EquationRegressor(curve, **settings).fit(PAIRS).log_likelihood_ == pytest.approx(
        expected.log_likelihood_, rel=1e-8
    )


PAIRS = odd()


def capped(X, a):
    return torch.clamp(a * X[:, 0], max=capped.most)


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")
def test_a_program_of_an_equation_that_has_changed_since_is_not_used():
    settings = {"parameters": {"a": Parameter(0.5, lower=0)}, "random": ["a"]}
    capped.most = 1e3
    EquationRegressor(capped, **settings).fit(PAIRS)
    capped.most = 4.0  # of which no hash of the function knows
    expected = EquationRegressor(capped, compile=False, **settings).fit(PAIRS)
    assert EquationRegressor(capped, **settings).fit(PAIRS).log_likelihood_ == pytest.approx(
        expected.log_likelihood_, rel=1e-8
    )
