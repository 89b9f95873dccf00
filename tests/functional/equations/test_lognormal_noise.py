"""Lognormal noise: additive noise of logarithms, in every answer; and the sum of two standard deviations."""

import numpy as np
import pytest
import torch
from scipy.stats import lognorm, norm

from metaest import EquationRegressor, Parameter, Task, TaskError, TaskSet
from metaest.functional import Equation, HierarchicalModel, Noise, Observations, PopulationParameters
from metaest.functional.equations.correlation import Correlation
from metaest.functional.equations.evidence import query_loss
from metaest.functional.equations.hierarchical import Design
from metaest.functional.equations.noise import Accuracy
from metaest.functional.equations.transforms import Transforms

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")

F = torch.linspace(0.2, 3, 9, dtype=torch.float64)
Y = torch.tensor([0.1, 0.3, 0.55, 0.4, 0.8, 1.5, 0.6, 2.0, 3.5], dtype=torch.float64)
SIGMA = torch.tensor([-1.0], dtype=torch.float64)
ACCURACY = Accuracy(torch.linspace(0.5, 2, 9, dtype=torch.float64))
SD = np.exp(-1.0) / np.sqrt(np.linspace(0.5, 2, 9))


def test_the_density_is_the_lognormal_one_and_the_weight_its_expected_second_derivative():
    noise, f = Noise("lognormal"), F.clone().requires_grad_()
    terms = noise.terms(f, Y, SIGMA, ACCURACY)
    np.testing.assert_allclose(terms.loss.detach(), -lognorm.logpdf(Y.numpy(), SD, scale=F.numpy()), rtol=1e-12)
    assert torch.autograd.gradcheck(
        lambda f, s: noise.terms(f, Y, s, ACCURACY).loss, (f, SIGMA.clone().requires_grad_())
    )
    torch.testing.assert_close(terms.slope.detach(), torch.autograd.grad(terms.loss.sum(), f)[0])
    weight = terms.weight.detach()
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    for i in (0, 4, 8):
        at = F[i].expand(20).clone().requires_grad_()
        alike = Accuracy(ACCURACY.weight[i])
        y = F[i] * torch.exp(SD[i] * torch.from_numpy(nodes))
        (first,) = torch.autograd.grad(noise.terms(at, y, SIGMA, alike).loss.sum(), at, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), at)
        expected = float(second @ torch.from_numpy(weights)) / weights.sum()
        assert float(weight[i]) == pytest.approx(expected, rel=1e-9)


def test_rows_below_the_limit_have_the_probability_of_lying_there():
    noise, f = Noise("lognormal", limit=0.5), F.clone().requires_grad_()
    terms = noise.terms(f, Y, SIGMA, ACCURACY)
    probability = -norm.logcdf((np.log(0.5) - np.log(F.numpy())) / SD)
    expected = np.where(Y.numpy() >= 0.5, -lognorm.logpdf(Y.numpy(), SD, scale=F.numpy()), probability)
    np.testing.assert_allclose(terms.loss.detach(), expected, rtol=1e-12)
    torch.testing.assert_close(terms.slope.detach(), torch.autograd.grad(terms.loss.sum(), f)[0])
    assert (terms.weight >= 0).all()
    # the number next below the limit counts as below it, the limit itself as measured, whatever logarithms round to
    for limit in (0.5, 0.1, 1.7, 3e-5):
        at = torch.tensor([np.nextafter(limit, 0), limit], dtype=torch.float64)
        loss = Noise("lognormal", limit=limit).terms(torch.full_like(at, limit), at, SIGMA).loss
        np.testing.assert_allclose(loss, [np.log(2), -lognorm.logpdf(limit, np.exp(-1), scale=limit)], rtol=1e-9)


def test_a_curve_at_zero_allows_no_observation_but_one_below_the_limit():
    f = torch.tensor([0.0, -1.0], dtype=torch.float64)
    assert torch.isinf(Noise("lognormal").terms(f, torch.ones(2).double(), SIGMA).loss).all()
    at = f.clone().requires_grad_()
    terms = Noise("lognormal", limit=0.5).terms(at, torch.full_like(f, 0.1), SIGMA)
    assert [part.tolist() for part in terms] == [[0.0, 0.0]] * 3
    assert torch.autograd.grad(terms.loss.sum(), at)[0].tolist() == [0.0, 0.0]
    assert Noise("lognormal", limit=0.5).residual(f, torch.full_like(f, 0.1)).tolist() == [0.0, 0.0]


def test_the_variance_of_observations_is_exact():
    rng = np.random.default_rng(0)
    curves, v = rng.normal(2, 0.3, 400_000), 0.16
    drawn = curves * np.exp(0.4 * rng.standard_normal(400_000))
    sigma = torch.tensor([np.log(0.4)])
    spread = Noise("lognormal").spread(torch.tensor([2.0]), torch.tensor([0.09]), sigma)
    assert float(spread) == pytest.approx(drawn.var(), rel=0.02)
    without = Noise("lognormal").spread(torch.tensor([2.0]), torch.tensor([0.0]), sigma)
    assert float(without) == pytest.approx(lognorm.var(v**0.5, scale=2.0), rel=1e-6)


@pytest.mark.parametrize("limit", [None, 0.5])
def test_a_sum_of_standard_deviations_without_one_of_them_is_additive_or_proportional(limit):
    noise = Noise("combined1", limit=limit)
    only = {"additive": [-1.0, -np.inf], "proportional": [-np.inf, -1.0]}
    for kind, constants in only.items():
        terms = noise.terms(F, Y, torch.tensor(constants, dtype=torch.float64), ACCURACY)
        for part, expected in zip(terms, Noise(kind, limit=limit).terms(F, Y, SIGMA, ACCURACY), strict=True):
            torch.testing.assert_close(part, expected, rtol=1e-12, atol=1e-12)
    f, both = F.clone().requires_grad_(), torch.tensor([-1.0, -0.6], dtype=torch.float64, requires_grad=True)
    for part in ("loss", "slope"):
        given = lambda f, s, part=part: getattr(noise.terms(f, Y, s, ACCURACY), part)  # noqa: E731
        assert torch.autograd.gradcheck(given, (f, both))


def decay(X, start, rate):
    return start * torch.exp(-rate * X[:, 0])


def log_decay(X, start, rate):
    return torch.log(decay(X, start, rate))


CONSTANTS = {"start": Parameter(10, lower=0), "rate": Parameter(1, lower=0)}
NEW = np.array([[0.5], [3.0], [8.0]])


def patients(n, seed, scatter, rows=8):
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n):
        X = np.sort(rng.uniform(0.1, 6, (rows, 1)), axis=0)
        curve = 100 * np.exp(rng.normal(0, 0.3)) * np.exp(-0.8 * np.exp(rng.normal(0, 0.2)) * X[:, 0])
        tasks.append(Task(f"p{i}", X, scatter(curve, rng.standard_normal(rows))))
    return TaskSet(tasks)


def lognormal(curve, z):
    return curve * np.exp(0.2 * z)


def logs(tasks):
    return TaskSet([Task(t.name, t.X, np.log(t.y), sample_weight=t.sample_weight) for t in tasks])


SETTINGS = {
    "default": {},
    "correlated": {"noise_correlation": "car1", "correlation_time": 0},
    "query": {"objective": "query", "n_episodes": 4, "random_state": 0},
    "limit": {"limit": 2.0},
}


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")
@pytest.mark.parametrize("name", SETTINGS)
def test_it_is_additive_noise_of_logarithms(name):
    tasks, settings = patients(16, 0, lognormal), SETTINGS[name]
    weights = np.random.default_rng(1).uniform(0.5, 2, len(tasks.y)) if name == "default" else None
    below = tasks.y < settings.get("limit", 0)
    in_logs = settings | ({"limit": np.log(settings["limit"])} if below.any() else {})
    model = EquationRegressor(decay, CONSTANTS, noise="lognormal", **settings).fit(tasks, sample_weight=weights)
    other = EquationRegressor(log_decay, CONSTANTS, **in_logs).fit(logs(tasks), sample_weight=weights)
    columns = ["value", "standard_error", "omega"]
    np.testing.assert_allclose(model.population_[columns], other.population_[columns], rtol=1e-4)
    assert model.noise_["sd_log"] == pytest.approx(other.noise_["sd"], rel=1e-5)
    jacobian = np.log(tasks.y[~below]).sum()
    assert model.log_likelihood_ == pytest.approx(other.log_likelihood_ - jacobian, abs=1e-4)
    t = patients(1, 7, lognormal)[0]
    one, two = model.adapt(t.X[:4], t.y[:4]), other.adapt(t.X[:4], np.log(t.y[:4]))
    np.testing.assert_allclose(one.params_["value"], two.params_["value"], rtol=1e-4)
    np.testing.assert_allclose(one.predict(NEW), np.exp(two.predict(NEW)), rtol=1e-4)
    np.testing.assert_allclose(one.predict_interval(NEW), np.exp(two.predict_interval(NEW)), rtol=1e-4)
    np.testing.assert_allclose(
        one.simulate(NEW, 50, random_state=0), np.exp(two.simulate(NEW, 50, random_state=0)), rtol=1e-3
    )
    assert one.suggest(NEW).tolist() == two.suggest(NEW).tolist()
    many = model.adapt_many(TaskSet([(t.X[:4], t.y[:4])]))
    np.testing.assert_allclose(many.params_[["start", "rate"]].to_numpy()[0], one.params_["value"], rtol=1e-5)


def test_query_rows_that_correlate_with_support_rows_are_predicted_as_their_logarithms():
    rng = np.random.default_rng(0)
    X, y = torch.from_numpy(rng.uniform(0, 3, (3, 6, 1))), torch.from_numpy(np.exp(rng.standard_normal((3, 6))))
    population = PopulationParameters(
        *(torch.tensor(v).double() for v in ([0.5, -0.2], [[0.3, 0.0], [0.1, 0.2]], [-1.0, -0.5]))
    )
    design = Design(torch.arange(2), torch.ones(2, 3).double())
    losses = []
    for kind, equation, target in (("lognormal", decay, y), ("additive", log_decay, y.log())):
        noise = Noise(kind, correlation=Correlation("car1", column=0, label="t", shortest=1e-3, longest=1e3))
        model = HierarchicalModel(
            Equation(equation, ("start", "rate"), "rows"), Transforms([0.0] * 2, [np.inf] * 2), noise
        )
        rows = [Observations.stack(X[:, s], target[:, s], torch.ones_like(y[:, s])) for s in (slice(4), slice(4, 6))]
        losses.append(query_loss(model, population, design, *rows, torch.zeros(2, 3).double()))
    torch.testing.assert_close(losses[0], losses[1] + y[:, 4:].log().mean(dim=1))


@pytest.mark.parametrize(
    ("noise", "scatter", "constants"),
    [
        ("lognormal", lognormal, {"sd_log": 0.2}),
        ("combined1", lambda curve, z: curve + (0.5 + 0.1 * curve) * z, {"sd": 0.5, "cv": 0.1}),
    ],
)
def test_simulated_tasks_give_their_constants_and_intervals_cover(noise, scatter, constants):
    model = EquationRegressor(decay, CONSTANTS, noise=noise).fit(patients(40, 2, scatter))
    assert model.noise_.to_dict() == pytest.approx(constants, rel=0.3)
    inside = []
    for t in patients(40, 3, scatter):
        low, high = model.adapt(t.X[::2], t.y[::2]).predict_interval(t.X[1::2])
        inside.append((t.y[1::2] >= low) & (t.y[1::2] <= high))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.05)
    one = model.adapt(t.X[::2], t.y[::2])
    drawn = one.simulate(NEW, 10_000, random_state=0)
    np.testing.assert_allclose(
        np.quantile(drawn, [0.05, 0.95], axis=0), one.predict_interval(NEW), rtol=0.03, atol=0.03
    )


@pytest.fixture(scope="module")
def fitted():
    return EquationRegressor(decay, CONSTANTS, noise="lognormal", random_state=0).fit(patients(20, 0, lognormal))


def test_observations_that_are_not_above_zero_are_refused_by_task_and_row(fitted):
    tasks = patients(20, 0, lognormal)
    bad = TaskSet([Task(t.name, t.X, np.where(np.arange(8) == 3, 0.0, t.y) if t.name == "p4" else t.y) for t in tasks])
    with pytest.raises(TaskError, match=r"task 'p4': y is 0 in row 3 .* noise='lognormal'"):
        EquationRegressor(decay, CONSTANTS, noise="lognormal").fit(bad)
    new = TaskSet([Task(f"new {t.name}", t.X, np.append(t.y[:7], 0.0)) for t in patients(6, 9, lognormal)])
    for refused in (fitted.adapt_many, fitted.score, lambda tasks: fitted.calibrate(tasks, support_size=4)):
        with pytest.raises(TaskError, match=r"task .* y is 0 in row 7 .* noise='lognormal'"):
            refused(new)
    with pytest.raises(TaskError, match=r"adapt: y is -1 in row 1 "):
        fitted.adapt([[1.0], [2.0]], [3.0, -1.0])
    with pytest.raises(TaskError, match=r"partial_adapt: y is 0 in row 0 "):
        fitted.adapt([[1.0]], [30.0]).partial_adapt([[2.0]], [0.0])


def after_a_delay(X, start, rate):
    return torch.where(X[:, 0] < 0.5, 0.0, decay(X, start, rate))


def test_rows_where_the_curve_is_zero_are_named():
    tasks = [Task(t.name, np.vstack([[[0.0]], t.X + 0.5]), np.append(0.1, t.y)) for t in patients(6, 0, lognormal)]
    with pytest.raises(
        TaskError, match=r"task 'p0': the equation is 0 in row 0, .* above 0 in every row: leave the row"
    ):
        EquationRegressor(after_a_delay, CONSTANTS, noise="lognormal").fit(tasks)
    model = EquationRegressor(after_a_delay, CONSTANTS, noise="lognormal")
    model.fit([Task(t.name, t.X[1:], t.y[1:]) for t in tasks])
    with pytest.raises(TaskError, match=r"adapt: the equation is 0 in row 0, .* above 0"):
        model.adapt(tasks[0].X, tasks[0].y)
    one = model.adapt(tasks[0].X[1:5], tasks[0].y[1:5])
    assert one.predict([[0.0]]).tolist() == [0.0]
    assert [end.tolist() for end in one.predict_interval([[0.0]])] == [[0.0], [0.0]]
    assert not one.simulate([[0.0]], 5).any()
    assert one.suggest([[0.0], [1.0]]).tolist() == [1]
    # with a limit, rows before the delay are certain to lie below it
    EquationRegressor(after_a_delay, CONSTANTS, noise="lognormal", limit=0.2).fit(tasks)


def test_intervals_warn_where_some_curves_lie_below_zero():
    rng = np.random.default_rng(0)
    X = np.linspace(0, 1, 6)[:, None]
    lines = [
        (X, (10 + rng.normal() - (6 + 0.5 * rng.normal()) * X[:, 0]) * np.exp(0.05 * rng.normal(size=6)))
        for _ in range(8)
    ]
    model = EquationRegressor(lambda X, a, b: a + b * X[:, 0], {"a": 9.0, "b": -5.0}, noise="lognormal").fit(lines)
    one = model.adapt(*lines[0])
    assert (one.predict_interval(X)[0] > 0).all()
    with pytest.warns(UserWarning, match=r"at X = \[1\.\d+\] the curve is below zero for \d"):
        one.predict_interval([[float(-one.params_.loc["a", "value"] / one.params_.loc["b", "value"])]])


def test_settings_that_have_no_meaning_together_are_refused():
    tasks = patients(6, 0, lognormal)
    for settings, message in (
        ({"measurement_sd": 0}, "measurement_sd is in the unit of y"),
        ({"limit": 0.0}, "needs a limit above 0"),
        ({"inner_solver": "gradient", "objective": "query"}, "needs inner_solver='gauss-newton'"),
    ):
        with pytest.raises(ValueError, match=message):
            EquationRegressor(decay, CONSTANTS, noise="lognormal", **settings).fit(tasks)


def test_summaries_say_what_the_constants_are(fitted):
    assert f"Noise: SD {fitted.noise_['sd_log']:.4g} of log y" in fitted.summary().splitlines()
    model = EquationRegressor(decay, CONSTANTS, noise="combined1").fit(patients(8, 0, lognormal))
    assert "(unit of y) plus " in model.summary()


def test_guards_and_conformal_intervals_are_in_the_unit_of_y(fitted):
    fitted.calibrate(patients(20, 5, lognormal), support_size=4, guard=True)
    inside = []
    for t in patients(15, 6, lognormal):
        low, high = fitted.adapt(t.X[::2], t.y[::2], guard=True).predict_interval(t.X[1::2], method="conformal")
        inside.append((t.y[1::2] >= low) & (t.y[1::2] <= high))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.08)
