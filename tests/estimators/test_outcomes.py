"""EquationRegressor of outcomes that are not normal: published fits, settings, rows, questions, files."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from metaest import (
    Binomial,
    EquationRegressor,
    Parameter,
    PopulationAverage,
    StudentT,
    Task,
    TaskError,
    TaskSet,
    TimeToEvent,
    load,
    save,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks" / "accuracy"))
import outcomes as study

pytestmark = pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")

LEVEL = {"level": 0.0, "slope": 0.0}


def drawn(kind, n_tasks=25, seed=0):
    """Return a fitted model of one kind, and its tasks."""
    tasks = study.simulated(kind, np.random.default_rng(seed))[:n_tasks]
    noise, equation, _ = study.KINDS[kind]
    return EquationRegressor(equation, LEVEL, random=["level"], noise=noise).fit(tasks), tasks


@pytest.fixture(scope="module")
def fits():
    return {kind: drawn(kind) for kind in study.KINDS}


@pytest.mark.parametrize(("how", "nodes"), [("Laplace", 1), ("quadrature", 25)])
def test_the_herds_are_fitted_as_by_glmer(how, nodes):
    names = ("first", "second", "third", "fourth")
    noise = Binomial(trials="size")
    model = EquationRegressor(study.risk, dict.fromkeys(names, 0.0), random=["first"], noise=noise, n_nodes=nodes)
    model.fit(study.herds())
    table = model.population_
    away = (table["value"] - study.GLMER[how]).abs() / table["standard_error"]
    assert away.max() < 0.001
    assert table["omega"].iloc[0] == pytest.approx({"Laplace": 0.6423, "quadrature": 0.6475}[how], abs=2e-4)
    assert not model.compiled_
    assert "normal noise" in model.compiled_reason_
    exact = model.log_likelihood(study.herds(), "quadrature", n_nodes=25).value
    assert abs(exact - model.log_likelihood_) < (0.06 if nodes == 1 else 1e-6)
    # the quadrature's maximum is the higher one of the exact likelihood
    assert exact <= -91.98336


def test_counts_are_fitted_as_by_an_independent_likelihood():
    tasks, log_likelihood = study.counts(0)
    model = EquationRegressor(study.rate, LEVEL, random=["level"], noise="poisson", n_nodes=21).fit(tasks)
    table = model.population_
    p = np.array([*table["value"], np.log(table["omega"].iloc[0])])
    assert log_likelihood(p) == pytest.approx(model.log_likelihood_, abs=1e-5)
    errors = np.array([*table["standard_error"], table["omega_standard_error"].iloc[0] / table["omega"].iloc[0]])
    step = np.diag(0.05 * errors)
    assert all(log_likelihood(p) > log_likelihood(p + way * h) for h in step for way in (-1, 1))


def test_times_of_events_have_the_likelihood_of_weibulls_distribution():
    tasks, log_likelihood = study.times(3, 1.6)
    constants = {name: study.POSITIVE[name] for name in ("scale", "shape")}
    model = EquationRegressor(study.weibull, constants, random=["scale"], noise=TimeToEvent(time=0), n_nodes=21)
    table = model.fit(tasks).population_
    p = np.array([*table["scaled_value"], np.log(table["omega"].iloc[0])])
    assert log_likelihood(p) == pytest.approx(model.log_likelihood_, abs=1e-4)


@pytest.mark.parametrize("kind", list(study.KINDS))
def test_every_kind_answers(fits, kind, tmp_path):
    model, tasks = fits[kind]
    task = tasks[0]
    adapted = model.adapt(task.X[:5], task.y[:5])
    mean, sd = adapted.predict(task.X, return_std=True)
    np.testing.assert_allclose(mean, adapted.predict(task.X))
    assert (sd > 0).all()
    low, high = adapted.predict_interval(task.X, of="curve")
    assert ((low < mean) & (mean < high)).all()
    assert ((low < adapted.predict_mean(task.X)) & (adapted.predict_mean(task.X) < high)).all()
    outcome = model._fitted.model.noise
    if outcome.classes is not None:
        each = adapted.predict_proba(task.X)
        np.testing.assert_allclose(each.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(each @ np.arange(outcome.classes), adapted.predict_mean(task.X), rtol=1e-9)
        with pytest.raises(ValueError, match=r"of='curve'"):
            adapted.predict_interval(task.X)
        with pytest.raises(ValueError, match=r"of='curve'"):
            model.predict_interval(task.X)
        assert model.predict_proba(task.X).shape == each.shape
    else:
        assert not hasattr(adapted, "predict_proba")
        assert not hasattr(model, "predict_proba")
        low, high = adapted.predict_interval(task.X, level=0.9)
        observed = adapted.simulate(task.X, 4000, 0)
        inside = ((observed >= low) & (observed <= high)).mean(axis=0)
        assert (inside > 0.88).all()
        assert (inside < (0.92 if kind == "student-t" else 1.01)).all()
    # many tasks in one call, a file and its words
    np.testing.assert_allclose(
        model.adapt_many(tasks).predict(tasks)[: len(task.X)], model.adapt(task.X, task.y).predict(task.X)
    )
    assert outcome.kind in model.summary()
    assert list(model.noise_.index) == [
        *({} if kind == "student-t" else study.KINDS[kind][2]),
        *(["scale", "degrees_of_freedom"] if kind == "student-t" else []),
    ]
    save(model, tmp_path / "model.metaest")
    read = load(tmp_path / "model.metaest", equation=study.KINDS[kind][1])
    np.testing.assert_allclose(read.adapt(task.X[:5], task.y[:5]).predict(task.X), mean, rtol=1e-14)
    assert clone(model).noise == model.noise


def test_scores_and_what_they_refuse(fits):
    for kind in ("bernoulli", "poisson", "ordinal"):
        model, tasks = fits[kind]
        assert -0.2 < model.score(tasks) < 1
    model, tasks = fits["time-to-event"]
    with pytest.raises(ValueError, match=r"log_likelihood\(tasks\)"):
        model.score(tasks)
    with pytest.raises(ValueError, match="bootstrap"):
        model.bootstrap(tasks, 1)
    for name, call in (
        ("calibrate", lambda m, t: m.calibrate(t)),
        ("to_population", lambda m, t: m.to_population(target="y")),
    ):
        model = fits["poisson"][0]
        with pytest.raises(ValueError, match=name):
            call(model, study.simulated("poisson", np.random.default_rng(9)))


def test_questions_that_make_no_sense_of_times_and_orders_are_refused(fits):
    model, tasks = fits["time-to-event"]
    task = tasks[0]
    adapted = model.adapt(task.X, task.y)
    for match, call in (
        (r"log_likelihood\(tasks\)", lambda: adapted.score(task.X, task.y)),
        ("guard", lambda: model.adapt(task.X, task.y, guard=True)),
        ("simulate_tasks", lambda: model.simulate_tasks(task.X, 2)),
        ("suggest", lambda: adapted.suggest(task.X)),
        ("suggest", lambda: fits["ordinal"][0].suggest(task.X[:, :1])),
        ("sample_weight", lambda: fits["poisson"][0].simulate(task.X[:, :1], sample_weight=np.ones(8))),
        ("sample_weight", lambda: fits["poisson"][0].predict_interval(task.X[:, :1], sample_weight=np.ones(8))),
        ("not normal", lambda: PopulationAverage([("a", clone(model))]).fit(tasks)),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(TaskError, match=r"predict: the unit is observed from 0 to -1 in row 1"):
        model.predict([[0.0, 1.0], [0.0, -1.0]])
    assert model.predict([[0.0, 0.0]]) == 0.0
    with pytest.raises(TaskError, match=r"predict: the number of trials is 1\.5 in row 0"):
        fits["binomial"][0].predict([[0.0, 1.5]])
    # what a row teaches of a probability is greatest where it is a half
    assert fits["bernoulli"][0].suggest([[-4.0], [0.2], [4.0]], n=1).tolist() == [1]


def test_a_fit_goes_on_from_its_checkpoint(fits, tmp_path):
    model, tasks = fits["binomial"]
    twice = [clone(model).set_params(random_state=0, checkpoint=tmp_path).fit(tasks) for _ in range(2)]
    assert twice[0].log_likelihood_ == twice[1].log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-9)


def test_a_bootstrap_and_a_profile_of_counts(fits):
    model, tasks = fits["negative-binomial"]
    fits_again = model.bootstrap(tasks, 2, random_state=0)
    assert {"level", "slope", "level_omega", "noise_dispersion"} <= {*fits_again.columns}
    profile = model.profile_likelihood(tasks, "noise_dispersion", n_points=3)
    assert profile.lower < model.noise_["dispersion"] < profile.upper


def test_quadrature_has_profiles_as_well():
    model = EquationRegressor(
        study.risk, dict.fromkeys(("first", "second", "third", "fourth"), 0.0), random=["first"],
        noise=Binomial(trials="size"), n_nodes=7,
    ).fit(study.herds())  # fmt: skip
    profile = model.profile_likelihood(study.herds(), "first_omega", n_points=3)
    assert profile.lower < 0.6475 < profile.upper


WRONG = [
    ("bernoulli", [0, 1, 0.5, 1], "y is 0.5 in row 2"),
    ("poisson", [0, 1, -1, 1], "y is -1 in row 2"),
    ("negative-binomial", [0, 1.5, 1, 1], r"y is 1\.5 in row 1"),
    ("ordinal", [0, 1, 2, 0.5], r"y is 0\.5 in row 3"),
    (Binomial(trials=1), [0, 1, 9, 1], "y is 9 of 3 trials in row 2"),
    (TimeToEvent(time=0), [1, 0, 1, 1], "observed from 0 to 0 in row 0"),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("noise", "y", "message"), WRONG)
def test_observations_of_another_kind_are_refused_by_task_and_row(noise, y, message):
    X = np.column_stack([np.arange(4.0), np.full(4, 3.0)])
    right = {"time-to-event": X + 1}.get(getattr(noise, "kind", noise), X)
    good = (right, [0, 1, 1, 0])
    equation = study.rate if getattr(noise, "kind", noise) == "time-to-event" else study.logit
    model = EquationRegressor(equation, LEVEL, random=["level"], noise=noise)
    with pytest.raises(TaskError, match=f"task 'b': .*{message}"):
        model.fit({"a": good, "b": (X, y), "c": good})
    more = [1, 2, 0, 0] if noise == "ordinal" else [1, 1, 0, 0]
    model = model.fit({"a": good, "c": (right, more), "d": (right, [0, 0, 0, 1])})
    with pytest.raises(TaskError, match=f"adapt: .*{message}"):
        model.adapt(X, y)
    with pytest.raises(TaskError, match=f"task 'e': .*{message}"):
        model.adapt_many({"e": (X, y)})
    with pytest.raises(TaskError, match=f"task 'e': .*{message}"):
        model.log_likelihood({"e": (X, y)})


def test_settings_that_do_not_go_together_are_refused(fits):
    def fit(match, error=ValueError, tasks=None, equation=study.logit, **settings):
        with pytest.raises(error, match=match):
            EquationRegressor(equation, LEVEL, **settings).fit(fits["bernoulli"][1] if tasks is None else tasks)

    fit(r"Binomial\(trials=", noise="binomial")
    fit(r"TimeToEvent\(time=", noise="time-to-event")
    fit("no column 'n' in X", noise=Binomial(trials="n"))
    fit("no column of X, which has 1", noise=Binomial(trials=7))
    fit("by name or by number", noise=TimeToEvent(time=1.5))
    for settings in (
        {"objective": "query"},
        {"limit": 0.5},
        {"measurement_sd": 0},
        {"noise_correlation": "ar1"},
        {"small_sample": "integrate"},
        {"covariance": "auto"},
        {"random": "auto"},
    ):
        fit("noise='bernoulli' needs", noise="bernoulli", **settings)
    fit("n_nodes=3 needs objective='evidence'", n_nodes=3, objective="query")
    fit("n_nodes=3 needs small_sample='none'", n_nodes=3, small_sample="integrate")
    fit("n_nodes", n_nodes=0)
    with pytest.raises(ValueError, match="sample_weight"):
        EquationRegressor(study.logit, LEVEL, noise="bernoulli").fit(fits["bernoulli"][1], sample_weight=np.ones(200))
    four = dict.fromkeys("abcd", 0.0)
    with pytest.raises(ValueError, match="up to 3 constants"):
        EquationRegressor(lambda X, a, b, c, d: a + b + c + d + 0 * X[:, 0], four, n_nodes=3).fit(fits["poisson"][1])
    with pytest.raises(TaskError, match=r"row 0, X = .*the probability of y = 1"):
        EquationRegressor(study.line, {"level": 3.0, "slope": 0.0}, noise="bernoulli").fit(fits["bernoulli"][1])


@pytest.mark.filterwarnings("ignore:the (tasks do not determine|likelihood does not fall)", "ignore:fit. the search")
@pytest.mark.parametrize("kind", ["bernoulli", "poisson", "negative-binomial", "time-to-event"])
def test_zeros_alone_end_in_a_warning(fits, kind):
    model, tasks = fits[kind]
    nothing = TaskSet([Task(task.name, task.X, np.zeros(len(task.X))) for task in tasks])
    with pytest.warns(ConvergenceWarning, match=r"(y is 0 in all|no event happened)"):
        clone(model).fit(nothing)


def test_what_separates_zeros_and_ones_is_warned_of():
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 8)
    apart = TaskSet([Task(i, x[:, None], (x > 0).astype(float)) for i in range(10)])
    with pytest.warns(ConvergenceWarning, match=r"the likelihood does not fall as .*slope.* grows"):
        EquationRegressor(study.logit, LEVEL, random=["level"], noise="bernoulli").fit(apart)
    # one of two columns separates, and the other does not
    X = rng.standard_normal((12, 8, 2))
    y = (rng.random((12, 8)) < 0.5) | (X[:, :, 1] > 1)

    def two(X, level, slope, step):
        return torch.sigmoid(level + slope * X[:, 0] + step * (X[:, 1] > 1))

    tasks = TaskSet([Task(i, X[i], y[i].astype(float)) for i in range(12)])
    with pytest.warns(ConvergenceWarning, match=r"(does not fall as|do not determine) step"):
        EquationRegressor(two, {**LEVEL, "step": 0.0}, random=["level"], noise="bernoulli").fit(tasks)


def test_a_category_without_a_row_is_warned_of(fits):
    model, tasks = fits["ordinal"]
    skipped = TaskSet([Task(task.name, task.X, np.where(task.y > 1, task.y + 1, task.y)) for task in tasks])
    with pytest.warns(ConvergenceWarning, match="no row has the category 2"):
        clone(model).fit(skipped)


def test_two_categories_are_a_logit(fits):
    _, tasks = fits["bernoulli"]
    binary, ordinal = (
        EquationRegressor(equation, LEVEL, random=["level"], noise=noise).fit(tasks)
        for equation, noise in ((study.logit, "bernoulli"), (study.line, "ordinal"))
    )
    assert ordinal.log_likelihood_ == pytest.approx(binary.log_likelihood_, abs=1e-6)
    np.testing.assert_allclose(ordinal.population_["value"], binary.population_["value"], atol=1e-4)


def test_the_order_of_rows_and_tasks_does_not_matter(fits):
    model, tasks = fits["poisson"]
    turned = TaskSet([Task(task.name, task.X[::-1], task.y[::-1]) for task in reversed(list(tasks))])
    again = clone(model).fit(turned)
    assert again.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-7)


def test_outliers_move_students_constants_little():
    rng = np.random.default_rng(0)
    level = 0.8 * rng.standard_normal(20)
    y = level[:, None] + study.X + 0.3 * rng.standard_normal((20, 8))
    clean = TaskSet([Task(i, study.X[:, None], row) for i, row in enumerate(y)])
    y = y.copy()
    y[::4, 7] += 30
    spoilt = TaskSet([Task(i, study.X[:, None], row) for i, row in enumerate(y)])
    moved = {}
    for noise in ("additive", StudentT(degrees_of_freedom=3)):
        model = EquationRegressor(study.line, LEVEL, random=["level"], noise=noise)
        slopes = [clone(model).fit(tasks).population_["value"]["slope"] for tasks in (clean, spoilt)]
        moved[str(noise)] = abs(slopes[1] - slopes[0])
    additive, student = moved.values()
    assert student < 0.1 < additive


def test_names_of_columns_and_entry_times():
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(12):
        entry = rng.uniform(0, 1, 15)
        t = entry + rng.exponential(np.exp(-0.3 * rng.standard_normal()), 15)
        ends = rng.uniform(1, 4, 15)
        frame = pd.DataFrame({"from": entry, "months": np.maximum(np.minimum(t, ends), entry + 0.01)})
        tasks.append(Task(f"plant {i}", frame, (t <= ends).astype(float)))
    noise = TimeToEvent(time="months", entry="from")
    model = EquationRegressor(
        lambda X, rate: rate + 0 * X[:, 0], {"rate": Parameter(1.0, lower=0, unit="1/month")}, noise=noise
    ).fit(TaskSet(tasks))
    value, error = model.population_.loc["rate", ["value", "standard_error"]]
    assert abs(value - 1) < 3 * error
    happened = model.predict(pd.DataFrame({"from": [0.0, 1.0], "months": [1.0, 2.0]}))
    np.testing.assert_allclose(happened, -np.expm1(-value), rtol=1e-10)


def test_more_nodes_of_a_line_change_nothing():
    tasks = study.simulated("student-t", np.random.default_rng(0))[:20]
    one, several = (EquationRegressor(study.line, LEVEL, random=["level"], n_nodes=n).fit(tasks) for n in (1, 3))
    assert several.log_likelihood_ == pytest.approx(one.log_likelihood_, abs=1e-6)
    assert several.compiled_reason_.startswith("quadrature")
    assert "3 nodes" in several.summary()


def test_a_probability_that_is_no_logit_is_fitted():
    rng = np.random.default_rng(0)
    doses = np.repeat([1.0, 2, 4, 8], 5)
    half = 3 * np.exp(0.4 * rng.standard_normal(30))
    y = rng.random((30, 20)) < torch.special.ndtr(torch.log(torch.from_numpy(doses / half[:, None]))).numpy()
    constants = {"half": Parameter(1.0, lower=0), "steepness": Parameter(1.0, lower=0)}

    def probit(X, half, steepness):
        return torch.special.ndtr(steepness * torch.log(X[:, 0] / half))

    tasks = TaskSet([Task(i, doses[:, None], row.astype(float)) for i, row in enumerate(y)])
    table = EquationRegressor(probit, constants, random=["half"], noise="bernoulli", n_nodes=5).fit(tasks).population_
    assert (abs(table["value"] - [3, 1]) < 3 * table["standard_error"]).all()


def test_a_row_where_the_fitted_equation_is_no_probability_is_refused():
    rng = np.random.default_rng(0)
    x, clinic = rng.uniform(0, 1, 200), np.repeat(np.arange(10), 20)
    y = (rng.random(200) < 0.3 + 0.4 * x).astype(float)
    model = EquationRegressor(lambda X, level, slope: level + slope * X[:, 0], {"level": 0.5, "slope": 0.0},
                              random=["level"], noise="bernoulli").fit(x[:, None], y, groups=clinic)  # fmt: skip
    clinic = model.adapt([[0.2], [0.4]], [0, 1])
    inside, outside = [[0.0], [0.5]], [[0.0], [30.0]]
    for answers in (model, clinic):
        assert ((answers.predict(inside) >= 0) & (answers.predict(inside) <= 1)).all()
        with pytest.raises(
            TaskError, match=r"predict: the equation is .* in row 1, X = .30\.0.*the probability of y = 1"
        ):
            answers.predict(outside)


@pytest.mark.parametrize(
    ("noise", "y"), [("poisson", 3), ("negative-binomial", 3), (TimeToEvent(time=2), 1)], ids=lambda value: str(value)
)
def test_a_row_that_has_no_probability_is_named(noise, y):
    X = np.column_stack([np.linspace(0, 1, 20), np.ones(20), np.ones(20)])
    X[7, 1] = 0.0  # no time at risk
    model = EquationRegressor(lambda X, level, slope: X[:, 1] * torch.exp(level + slope * X[:, 0]), LEVEL,
                              random=["level"], noise=noise)  # fmt: skip
    with pytest.raises(TaskError, match=rf"task 1: y is {y} in row 2, X = .*, where the equation is 0; with noise="):
        model.fit(X, np.full(20, y), groups=np.repeat(np.arange(4), 5))


def test_a_count_of_0_without_time_at_risk_says_nothing():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=60), rng.uniform(1, 2, 60)])
    y, groups = rng.poisson(2 * X[:, 1] * rng.gamma(2, 0.5, 60)).astype(float), np.repeat(np.arange(12), 5)
    for noise in ("poisson", "negative-binomial"):
        model = EquationRegressor(lambda X, level, slope: X[:, 1] * torch.exp(level + slope * X[:, 0]), LEVEL,
                                  random=["level"], noise=noise)  # fmt: skip
        expected = model.fit(X, y, groups=groups).log_likelihood_
        more = np.vstack([X, [[0.5, 0.0]]]), np.append(y, 0), np.append(groups, 3)
        assert model.fit(*more[:2], groups=more[2]).log_likelihood_ == pytest.approx(expected, abs=1e-6)
