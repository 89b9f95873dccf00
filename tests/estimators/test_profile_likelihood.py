"""Profiles of the likelihood of a population, beside lme4's and beside laws that any has."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.exceptions import ConvergenceWarning

from metaest import EquationRegressor, Parameter, Population, TaskError, load, save
from metaest.population import Block, NoiseModel
from metaest_datasets import load_orange, load_sleepstudy, make_sinusoids

TIMES = np.linspace(0.5, 8, 6)


def line(X, intercept, slope):
    return intercept + slope * X[:, 0]


def decay(X, start, rate):
    return start * torch.exp(-rate * X[:, 0])


def logistic(X, height, half, width):
    return height / (1 + torch.exp((half - X[:, 0]) / width))


@pytest.fixture(scope="module")
def people():
    return load_sleepstudy()


@pytest.fixture(scope="module")
def lines(people):
    return EquationRegressor(line, {"intercept": 250.0, "slope": 10.0}).fit(people)


# lme4 1.1: confint(lmer(Reaction ~ Days + (Days | Subject), sleepstudy, REML = FALSE)), as its documentation prints it
# (Bates, Maechler, Bolker, Walker, 2015, doi:10.18637/jss.v067.i01)
LME4 = {
    "intercept": (237.681, 265.130),
    "slope": (7.359, 13.576),
    "intercept_omega": (14.381, 37.716),
    "slope_omega": (3.801, 8.753),
    "noise_sd": (22.898, 28.858),
}


@pytest.mark.parametrize("name", LME4)
def test_ends_are_those_of_lme4(lines, people, name):
    profile = lines.profile_likelihood(people, name, level=0.95)
    assert (profile.lower, profile.upper) == pytest.approx(LME4[name], rel=5e-4)
    at_ends = np.interp([profile.lower, profile.upper], profile.table["value"], profile.table["deviance"])
    np.testing.assert_allclose(at_ends, stats.chi2.ppf(0.95, 1), rtol=1e-3)


def test_the_table_is_a_curve_with_its_maximum_at_the_fit(lines, people):
    profile = lines.profile_likelihood(people, "slope_omega", n_points=7)
    table = profile.table
    assert profile.name == "slope_omega"
    assert profile.value == pytest.approx(lines.population_["omega"]["slope"])
    assert table["value"].is_monotonic_increasing
    assert table["log_likelihood"].max() == pytest.approx(lines.log_likelihood_)
    np.testing.assert_allclose(table["deviance"], 2 * (lines.log_likelihood_ - table["log_likelihood"]), atol=1e-9)
    below = table["value"] <= profile.value
    assert (np.diff(table["deviance"][below]) <= 1e-9).all()
    assert (np.diff(table["deviance"][~below]) >= -1e-9).all()
    assert table["value"].between(profile.lower - 1e-9, profile.upper + 1e-9).sum() >= 7
    wider = lines.profile_likelihood(people, "slope_omega", level=0.99)
    assert wider.lower < profile.lower
    assert profile.upper < wider.upper


def test_rest_is_fitted_again_where_one_is_held(lines, people):
    """At a held slope the likelihood is that of a model in which the slope is no parameter."""
    profile = lines.profile_likelihood(people, "slope")
    held = profile.lower

    def without(X, intercept, further):
        return intercept + (held + further) * X[:, 0]

    # its further slopes vary around zero: a typical value that is held by bounds that all but meet
    table = {"intercept": 250.0, "further": Parameter(0.0, lower=-1e3, upper=1e3)}
    free = EquationRegressor(without, table).fit(people)
    same = free.profile_likelihood(people, "further").table
    expected = profile.table.set_index("value")["log_likelihood"][held]
    assert np.interp(0.0, same["value"], same["log_likelihood"]) == pytest.approx(expected, abs=0.02)


def test_machine_code_and_torch_give_one_interval():
    days = [Parameter(initial, lower=0, unit="d") for initial in (700, 300)]
    constants = {"height": Parameter(200, lower=0), "half": days[0], "width": days[1]}
    trees = load_orange()
    ends = []
    for compile in ("auto", False):
        model = EquationRegressor(logistic, constants, random=["height"], compile=compile).fit(trees)
        profile = model.profile_likelihood(trees, "height_omega")
        ends.append((profile.lower, profile.upper))
        shared = model.profile_likelihood(trees, "half")
        row = model.population_.loc["half"]
        # of a constant that many rows tell, about the interval of its standard error
        assert (shared.lower, shared.upper) == pytest.approx((row["lower_90"], row["upper_90"]), rel=0.02)
    np.testing.assert_allclose(*ends, rtol=1e-5)
    assert ends[0][1] / profile.value > profile.value / ends[0][0]  # longer above


def test_a_standard_deviation_that_vanished_has_zero_as_an_end():
    rng = np.random.default_rng(1)
    tasks = [(TIMES[:, None], 5 * np.exp(-0.3 * TIMES) + 0.3 * rng.standard_normal(6)) for _ in range(6)]
    model = EquationRegressor(
        decay, {"start": Parameter(5.0, lower=0), "rate": Parameter(0.3, lower=0)}, covariance="diagonal"
    ).fit(tasks)
    name = model.population_["omega"].idxmin()
    assert model.population_["omega"][name] == 0
    profile = model.profile_likelihood(tasks, f"{name}_omega")
    assert (profile.value, profile.lower) == (0, 0)
    assert 0.005 < profile.upper < 0.5
    assert profile.table["value"].min() == 0


def test_weights_limits_covariates_and_correlations_are_those_of_the_fit():
    rng = np.random.default_rng(2)
    tasks, weights = [], []
    for i in range(15):
        rate = 0.3 * np.exp(0.2 * rng.standard_normal() + 0.02 * (i - 7))
        y = 5 * np.exp(-rate * TIMES) + 0.2 * rng.standard_normal(6)
        tasks.append((np.column_stack([TIMES, np.full(6, float(i))]), y))
        weights.append(rng.uniform(0.5, 2, 6))
    constants = {"start": Parameter(5.0, lower=0), "rate": Parameter(0.3, lower=0)}
    settings = {"random": ["rate"], "covariates": {"rate": [1]}}
    model = EquationRegressor(decay, constants, **settings).fit(tasks, sample_weight=np.concatenate(weights))
    profile = model.profile_likelihood(tasks, "rate:1", sample_weight=np.concatenate(weights))
    assert profile.value == pytest.approx(model.coefficients_["coefficient"][0])
    half = 1.645 * model.coefficients_["standard_error"][0]
    assert (profile.upper - profile.lower) / 2 == pytest.approx(half, rel=0.3)
    with pytest.raises(ValueError, match="not those of the fit, or their weights are others"):
        model.profile_likelihood(tasks, "rate")
    limited = EquationRegressor(decay, constants, limit=0.6, **settings).fit(tasks)
    assert limited.profile_likelihood(tasks, "rate", n_points=2).lower < limited.population_["value"]["rate"]
    correlated = EquationRegressor(decay, constants, noise_correlation="ar1", **settings).fit(tasks)
    phi = correlated.profile_likelihood(tasks, "noise_phi", n_points=2)
    assert -1 < phi.lower < correlated.noise_["phi"] < phi.upper < 1


def test_an_end_that_no_likelihood_reaches_is_the_bound():
    waves = make_sinusoids(12, 10, noise=0.1, random_state=0)

    def wave(X, amplitude, phase):
        return amplitude * torch.sin(X[:, 0] + phase)

    model = EquationRegressor(wave, {"amplitude": Parameter(2.0, lower=0), "phase": 1.5}, noise="combined").fit(waves)
    assert model.profile_likelihood(waves, "noise_cv", n_points=2).lower == 0.0


def test_other_tasks_names_and_fits_are_refused(lines, people):
    for name in ("slopes", "slope_sd", None, 1, "noise_cv"):
        with pytest.raises(
            ValueError, match="profile_likelihood: name must be one of intercept, slope, intercept_omega"
        ):
            lines.profile_likelihood(people, name)
    with pytest.raises(ValueError, match="the tasks are not those of the fit"):
        lines.profile_likelihood(people[:10], "slope")
    with pytest.raises(ValueError, match="level"):
        lines.profile_likelihood(people, "slope", level=95)
    with pytest.raises(ValueError, match="n_points must be a whole number from 2"):
        lines.profile_likelihood(people, "slope", n_points=1)
    with pytest.raises(TaskError, match=r"2 features.*profile_likelihood"):
        lines.profile_likelihood([(np.ones((3, 2)), np.ones(3))], "slope")
    published = Population({"slope": 2.0}, Block(sd={"slope": 0.5}), NoiseModel("additive", sd=0.1), columns={"x": ""})
    kept = EquationRegressor.from_population(lambda X, slope: slope * X[:, 0], published)
    with pytest.raises(ValueError, match="this model has a prior"):
        kept.profile_likelihood([([[1.0]], [2.0])], "slope")
    with pytest.raises(ValueError, match="integrates over what its few tasks leave open"):
        EquationRegressor(line, {"intercept": 250.0, "slope": 10.0}, small_sample="integrate").fit(
            people
        ).profile_likelihood(people, "slope")
    with pytest.warns(ConvergenceWarning), pytest.raises(ValueError, match="fitted to query rows"):
        EquationRegressor(line, {"intercept": 250.0, "slope": 10.0}, objective="query", max_iter=1, random_state=0).fit(
            people
        ).profile_likelihood(people, "slope")


def test_the_model_is_untouched(lines, people):
    before = lines.population_.copy(), lines._fitted.population.factor.clone()
    one, other = (lines.profile_likelihood(people, "slope_omega", n_points=2) for _ in range(2))
    assert one.table.equals(other.table)
    assert lines.population_.equals(before[0])
    assert torch.equal(lines._fitted.population.factor, before[1])


def test_a_model_from_a_file_is_asked_as_before(lines, people, tmp_path):
    save(lines, tmp_path / "lines.metaest")
    again = load(tmp_path / "lines.metaest", equation=line)
    assert again.structures_ is None
    one, other = (model.profile_likelihood(people, "slope", n_points=2).table for model in (lines, again))
    assert one.equals(other)
    assert len(again.bootstrap(people, 1, random_state=0)) == 1
