"""Constants that follow columns of X from row to row: laws, closed forms, populations, files, refusals."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

from equations import decay
from metaest import (
    EquationRegressor,
    Parameter,
    Population,
    Quantity,
    Task,
    TaskError,
    TaskSet,
    TimeToEvent,
    load,
    save,
)
from metaest.estimators.equations.covariates import Covariates, TimeVaryingEquation
from metaest.functional import Transforms
from metaest.population import Block, Category, Formula, Linear, NoiseModel, Power

DECAY = {"k": Parameter(0.5, lower=0, unit="1/h", meaning="rate"), "a": Parameter(2.0, lower=0)}
FOLLOWS = {"covariates": {"k": ["heat"]}, "time_varying": ["heat"]}
INF = float("inf")


def made(n_tasks=25, slope=0.05, seed=0, within=3.0, columns=("t", "heat")):
    """Return tasks in which ln k rises with the second column, which varies between tasks and within them."""
    rng, tasks = np.random.default_rng(seed), []
    for i in range(n_tasks):
        n = int(rng.integers(5, 9))
        t, heat = np.sort(rng.uniform(0.2, 4, n)), 20 + rng.normal(0, 3) + rng.normal(0, within, n)
        k, a = np.exp(np.log(0.5) + slope * (heat - 20) + rng.normal(0, 0.2)), 3 * np.exp(rng.normal(0, 0.2))
        X = pd.DataFrame({columns[0]: t, columns[1]: heat})
        tasks.append(Task(f"run {i}", X, a * np.exp(-k * t) + rng.normal(0, 0.03, n)))
    return TaskSet(tasks)


@pytest.fixture(scope="module")
def tasks():
    return made()


@pytest.fixture(scope="module")
def model(tasks):
    return EquationRegressor(decay, DECAY, **FOLLOWS).fit(tasks)


# ---- laws of the equation


def around(function, names, lower, upper, constants, columns, formulas=()):
    n = len(constants)
    covariates = Covariates(constants, columns, columns, np.arange(1.0, n + 1), np.arange(2.0, n + 2), formulas)
    return TimeVaryingEquation(function, names, Transforms(lower, upper), covariates)


def summed(X, **constants):
    return sum((j + 1) * value for j, value in enumerate(constants.values())) + X[:, 0]


def test_a_constant_of_every_kind_moves_on_the_scale_on_which_it_is_normal():
    names, lower, upper = ("free", "low", "high", "both"), (-INF, 1.0, -INF, -2.0), (INF, INF, 4.0, 3.0)
    equation = around(summed, names, lower, upper, (0, 1, 2, 3), (1, 1, 2, 2))
    X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    phi, slopes = torch.tensor([0.3, -0.2, 0.5, 0.7]).double(), torch.tensor([0.4, -0.6, 0.2, 0.9]).double()
    transforms = Transforms(lower, upper)
    value = equation(
        X, **dict(zip(names, transforms.constrain(phi), strict=True)), **dict(zip(equation.slopes, slopes, strict=True))
    )
    z = torch.stack([(X[:, j] - 1 - i) / (2 + i) for i, j in enumerate((1, 1, 2, 2))])
    expected = summed(X, **dict(zip(names, transforms.constrain(phi[:, None] + slopes[:, None] * z), strict=True)))
    torch.testing.assert_close(value, expected, rtol=1e-13, atol=0)

    def curve(theta, gamma):
        return equation(X, **dict(zip(names, theta, strict=True)), **dict(zip(equation.slopes, gamma, strict=True)))

    inputs = transforms.constrain(phi).requires_grad_(), slopes.requires_grad_()
    assert torch.autograd.gradcheck(curve, inputs)
    assert torch.autograd.gradgradcheck(curve, inputs)


def test_far_values_of_a_column_overflow_nothing():
    equation = around(summed, ("both",), (-2.0,), (3.0,), (0,), (1,))
    X = torch.tensor([[0.0, -1e5], [0.0, 1e5]]).double()
    theta, slope = torch.tensor(1.0).double().requires_grad_(), torch.tensor(1.0).double().requires_grad_()
    value = equation(X, both=theta, **{"both:1": slope})
    assert value.tolist() == [-2.0, 3.0]
    value.sum().backward()
    assert np.isfinite([theta.grad.item(), slope.grad.item()]).all()


def test_a_column_that_is_constant_within_tasks_is_a_covariate_of_tasks():
    tasks = made(within=0.0)
    constant = EquationRegressor(decay, DECAY, covariates={"k": ["heat"]}).fit(tasks)
    varying = EquationRegressor(decay, DECAY, **FOLLOWS).fit(tasks)
    assert varying.log_likelihood_ == pytest.approx(constant.log_likelihood_, abs=1e-6)
    assert (varying.aic_, varying.bic_) == pytest.approx((constant.aic_, constant.bic_), abs=1e-5)
    for name, tolerance in (("coefficient", 1e-4), ("standard_error", 1e-3), ("mean", 1e-12)):
        np.testing.assert_allclose(varying.coefficients_[name], constant.coefficients_[name], rtol=tolerance)
    numbers = constant.population_.select_dtypes(float).columns
    np.testing.assert_allclose(varying.population_[numbers], constant.population_[numbers], rtol=1e-3)
    rows = tasks[0].X[:3], tasks[0].y[:3]
    one, other = varying.adapt(*rows), constant.adapt(*rows)
    for ends in zip(one.predict_interval(tasks[0].X), other.predict_interval(tasks[0].X), strict=True):
        np.testing.assert_allclose(*ends, rtol=2e-3)
    np.testing.assert_allclose(one.predict(tasks[0].X), other.predict(tasks[0].X), rtol=1e-4)
    # the constant of the task's own row against that at the mean of the column
    shift = varying.coefficients_["coefficient"][0] * (tasks[0].X[0, 1] - varying.coefficients_["mean"][0])
    assert one.params_["value"]["k"] * np.exp(shift) == pytest.approx(other.params_["value"]["k"], rel=1e-4)


def test_a_linear_equation_is_the_mixed_model():
    """y = a_t + g z, with a_t normal: maximum likelihood of a linear mixed model."""
    smf = pytest.importorskip("statsmodels.formula.api")
    rng, parts = np.random.default_rng(1), []
    for i in range(30):
        z = rng.normal(5, 2, 6)
        parts.append(pd.DataFrame({"i": i, "z": z, "y": 1 + rng.normal(0, 0.7) + 0.4 * z + rng.normal(0, 0.3, 6)}))
    frame = pd.concat(parts, ignore_index=True)

    def level(X, a):
        return a.expand(len(X)) if a.ndim == 0 else a

    tasks = TaskSet.from_frame(frame, task="i", features=["z"], target="y")
    model = EquationRegressor(level, {"a": 1.0}, covariates={"a": ["z"]}, time_varying=["z"]).fit(tasks)
    mixed = smf.mixedlm("y ~ z", frame, groups="i").fit(reml=False)
    assert model.log_likelihood_ == pytest.approx(mixed.llf, abs=1e-4)
    assert model.coefficients_["coefficient"][0] == pytest.approx(mixed.params["z"], rel=1e-5)
    assert model.coefficients_["standard_error"][0] == pytest.approx(mixed.bse["z"], rel=1e-3)
    at_mean = mixed.params["Intercept"] + mixed.params["z"] * frame["z"].mean()
    assert model.population_["value"]["a"] == pytest.approx(at_mean, rel=1e-5)
    assert model.population_["omega"]["a"] ** 2 == pytest.approx(float(mixed.cov_re.iloc[0, 0]), rel=1e-3)
    assert model.noise_["sd"] ** 2 == pytest.approx(mixed.scale, rel=1e-3)


def test_with_levels_it_is_the_nested_mixed_model(tmp_path):
    """y = a_t + b_tv + g z, with a_t normal between tasks and b_tv between their visits."""
    smf = pytest.importorskip("statsmodels.formula.api")
    rng, parts = np.random.default_rng(2), []
    for i in range(30):
        height = rng.normal(0, 0.7)
        for visit in range(3):
            z, at = rng.normal(5, 2, 4), height + rng.normal(0, 0.4)
            parts.append(pd.DataFrame({"i": i, "visit": visit, "z": z, "y": 1 + at + 0.4 * z + rng.normal(0, 0.3, 4)}))
    frame = pd.concat(parts, ignore_index=True)

    def level(X, a):
        return a.expand(len(X)) if a.ndim == 0 else a

    tasks = TaskSet.from_frame(frame, task="i", features=["visit", "z"], target="y")
    settings = {"levels": {"visit": ["a"]}, "covariates": {"a": ["z"]}, "time_varying": ["z"]}
    model = EquationRegressor(level, {"a": 1.0}, **settings).fit(tasks)
    mixed = smf.mixedlm("y ~ z", frame, groups="i", vc_formula={"visit": "0 + C(visit)"}, re_formula="1").fit(
        reml=False
    )
    assert model.log_likelihood_ == pytest.approx(mixed.llf, abs=1e-3)
    assert model.coefficients_["coefficient"][0] == pytest.approx(mixed.params["z"], rel=1e-4)
    assert model.coefficients_["standard_error"][0] == pytest.approx(mixed.bse["z"], rel=1e-2)
    omegas = model.population_.loc["a", ["omega_task", "omega_visit"]].astype(float)
    np.testing.assert_allclose(omegas**2, [mixed.cov_re.iloc[0, 0], mixed.vcomp[0]], rtol=5e-3)
    assert model.population_.index.tolist() == model.variance_split_.index.tolist() == ["a"]
    X, y = tasks[0].X, tasks[0].y
    units = model.adapt(X[:8], y[:8])
    assert set(units.params_.index.get_level_values("constant")) == {"a"}
    slope, mean = model.coefficients_.iloc[0][["coefficient", "mean"]]
    first = units.params_.loc[(0, "a"), "value"]
    np.testing.assert_allclose(units.predict(X[:4]), first + slope * (X[:4, 1] - mean), rtol=1e-8)
    by_number = EquationRegressor(level, {"a": 1.0}, levels={0: ["a"]}, covariates={"a": [1]}, time_varying=[1])
    by_number = by_number.fit([(task.X, task.y) for task in tasks])
    np.testing.assert_allclose(by_number.coefficients_["coefficient"], slope, rtol=1e-8)
    save(model, tmp_path / "model.metaest")
    np.testing.assert_array_equal(load(tmp_path / "model.metaest", equation=level).predict(X), model.predict(X))


def test_rows_in_another_order_change_nothing(tasks, model):
    order = np.random.default_rng(0).permutation
    turned = TaskSet([Task(t.name, *(part[chosen] for part in (t.X, t.y)), feature_names=t.feature_names)
                      for t in tasks for chosen in [order(len(t.y))]])  # fmt: skip
    other = EquationRegressor(decay, DECAY, **FOLLOWS).fit(turned)
    assert other.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-7)
    np.testing.assert_allclose(other.coefficients_["coefficient"], model.coefficients_["coefficient"], rtol=1e-5)
    X, y = tasks[0].X, tasks[0].y
    adapted, back = model.adapt(X, y), model.adapt(X[::-1], y[::-1])
    np.testing.assert_allclose(back.predict(X[::-1]), adapted.predict(X)[::-1], rtol=1e-7)


def test_the_unit_of_a_column_changes_its_coefficient_alone(tasks, model):
    fahrenheit = TaskSet(
        [Task(t.name, pd.DataFrame({"t": t.X[:, 0], "heat": 32 + 1.8 * t.X[:, 1]}), t.y) for t in tasks]
    )
    other = EquationRegressor(decay, DECAY, **FOLLOWS).fit(fahrenheit)
    assert other.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-6)
    for name in ("coefficient", "standard_error"):
        np.testing.assert_allclose(1.8 * other.coefficients_[name], model.coefficients_[name], rtol=1e-4)
    np.testing.assert_allclose(other.population_["value"], model.population_["value"], rtol=1e-5)


def test_the_coefficient_is_recovered_and_compiling_changes_nothing(tasks, model):
    row = model.coefficients_.iloc[0]
    assert (row["constant"], row["covariate"]) == ("k", "heat")
    assert abs(row["coefficient"] - 0.05) < 3 * row["standard_error"] < 0.02
    assert model.compiled_, model.compiled_reason_
    plain = EquationRegressor(decay, DECAY, compile=False, **FOLLOWS).fit(tasks)
    assert plain.log_likelihood_ == pytest.approx(model.log_likelihood_, abs=1e-6)
    np.testing.assert_allclose(plain.coefficients_["coefficient"], row["coefficient"], rtol=1e-4)


@pytest.mark.parametrize(
    "settings", [{"objective": "query"}, {"small_sample": "integrate"}, {"covariance": "diagonal", "noise": "combined"}]
)
def test_other_ways_to_fit_find_it_too(tasks, settings):
    row = EquationRegressor(decay, DECAY, random_state=0, **FOLLOWS, **settings).fit(tasks).coefficients_.iloc[0]
    assert abs(row["coefficient"] - 0.05) < 4 * row["standard_error"]


# ---- what is reported


def test_coefficients_stand_apart_from_constants(tasks, model):
    for table in (model.population_, model.adapt(tasks[0].X, tasks[0].y).params_):
        assert table.index.tolist() == ["k", "a"]
    assert model.task_params_.columns.tolist() == [
        *("k", "k_standard_error", "k_shrinkage", "a", "a_standard_error", "a_shrinkage", "status")
    ]
    assert model.covariate_columns_ == (1,)
    assert model.equation_ is decay
    assert model.adapt(tasks[0].X, tasks[0].y).equation_ is decay
    text = model.summary()
    assert text.startswith("decay(X, k, a)")
    assert "from row to row with heat" in text
    adapted = model.adapt(tasks[0].X, tasks[0].y)
    half = adapted.derive(lambda k, a: np.log(2) / k)
    assert half.value == pytest.approx(np.log(2) / adapted.params_["value"]["k"])
    assert adapted.profile("k", n_points=3).columns.tolist() == ["k", "deviance", "a"]
    assert model.bootstrap(tasks, 1, random_state=0).columns.tolist()[:2] == ["k", "a"]


def test_quantities_are_of_the_constants_that_were_given(tasks):
    class Decay:
        __name__ = "Decay"

        def __call__(self, X, k, a):
            return decay(X, k, a)

        def quantities(self):
            return {"half-life": Quantity(lambda k, a: np.log(2) / k, unit="h")}

    model = EquationRegressor(Decay(), DECAY, **FOLLOWS).fit(tasks)
    expected = np.log(2) / model.population_["value"]["k"]
    assert model.derived_["value"]["half-life"] == pytest.approx(expected)
    assert model.summary().startswith("Decay(X, k, a)")


def test_the_profile_of_a_coefficient_is_in_its_unit(tasks, model):
    row, profile = model.coefficients_.iloc[0], model.profile_likelihood(tasks, "k:heat")
    by_hand = row["coefficient"] + np.array([-1, 1]) * 1.645 * row["standard_error"]
    assert profile.value == pytest.approx(row["coefficient"], rel=1e-6)
    np.testing.assert_allclose([profile.lower, profile.upper], by_hand, rtol=0.05)


def test_new_rows_bring_their_own_values(tasks, model):
    row, k, a = model.coefficients_.iloc[0], *model.population_["value"]
    X = pd.DataFrame({"t": [1.0, 1.0, 2.0], "heat": [15.0, 25.0, 25.0]})
    by_hand = a * np.exp(-k * np.exp(row["coefficient"] * (X["heat"] - row["mean"])) * X["t"])
    np.testing.assert_allclose(model.predict(X), by_hand, rtol=1e-10)
    np.testing.assert_allclose(model.adapt([], []).predict(X), by_hand, rtol=1e-10)
    adapted = model.adapt(tasks[0].X[:4], tasks[0].y[:4])
    k, a = adapted.params_["value"]
    by_hand = a * np.exp(-k * np.exp(row["coefficient"] * (X["heat"] - row["mean"])) * X["t"])
    np.testing.assert_allclose(adapted.predict(X), by_hand, rtol=1e-10)
    many = model.adapt_many(tasks[:3])
    np.testing.assert_allclose(many.predict(X)[0], model.adapt(tasks[0].X, tasks[0].y).predict(X), rtol=1e-6)
    X.loc[1, "heat"] = np.nan
    with pytest.raises(TaskError, match="heat"):
        adapted.predict(X)
    with pytest.raises(TaskError, match="heat"):
        adapted.predict(X[["t"]])
    with pytest.raises(TaskError, match="'heat' differs between the rows of a task"):
        model.adapt([], [], covariates={"heat": 20.0})


def test_several_constants_and_columns_that_vary_and_do_not():
    rng, tasks = np.random.default_rng(3), []
    for i in range(40):
        t, heat, filler = rng.uniform(0.2, 3, 8), rng.normal(0, 1, 8), rng.normal()
        k = np.exp(-0.5 + 0.3 * heat + 0.4 * filler + 0.1 * rng.normal())
        a = 3 * np.exp(0.2 * heat + 0.1 * rng.normal())
        X = np.column_stack([t, heat, np.full(8, filler)])
        tasks.append(Task(i, X, a * np.exp(-k * t) + rng.normal(0, 0.02, 8), feature_names=["t", "heat", "filler"]))
    settings = {"covariates": {"k": ["filler", "heat"], "a": "heat"}, "time_varying": "heat"}
    table = EquationRegressor(decay, DECAY, **settings).fit(tasks).coefficients_
    assert list(zip(table["constant"], table["covariate"], strict=True)) == [
        ("k", "filler"),
        ("k", "heat"),
        ("a", "heat"),
    ]
    assert (np.abs(table["coefficient"] - [0.4, 0.3, 0.2]) < 3.5 * table["standard_error"]).all()
    by_number = {"covariates": {"k": [2, 1], "a": [1]}, "time_varying": [1]}
    unnamed = EquationRegressor(decay, DECAY, **by_number).fit([(task.X, task.y) for task in tasks])
    np.testing.assert_allclose(unnamed.coefficients_["coefficient"], table["coefficient"], rtol=1e-6)
    with pytest.raises(TaskError, match="column 'filler' is a covariate and belongs to the task"):
        EquationRegressor(decay, DECAY, **settings).fit(tasks).adapt(
            pd.DataFrame({"t": [1.0, 2.0], "heat": [0.0, 1.0], "filler": [0.0, 1.0]}), [1.0, 1.0]
        )


def test_an_equation_that_integrates_over_its_rows():
    """Growth at a rate that follows each day's temperature: the sum of rate times days, of all rows up to one."""

    def growth(X, rate):
        return torch.cumsum(rate * X[:, 0], dim=0)

    rng, tasks = np.random.default_rng(4), []
    for i in range(30):
        days, heat = np.ones(12), rng.normal(15, 5, 12)
        rate = np.exp(0.1 * rng.normal() + 0.06 * (heat - 15))
        X = pd.DataFrame({"days": days, "heat": heat})
        tasks.append(Task(i, X, np.cumsum(rate * days) + rng.normal(0, 0.1, 12)))
    settings = {"covariates": {"rate": ["heat"]}, "time_varying": ["heat"]}
    model = EquationRegressor(growth, {"rate": Parameter(2.0, lower=0)}, **settings).fit(tasks)
    row = model.coefficients_.iloc[0]
    assert model.batching_ == "vmap"
    assert abs(row["coefficient"] - 0.06) < 3 * row["standard_error"] < 0.01


def test_outcomes_that_are_not_normal_are_those_of_the_equation_written_out():
    """Units whose conditions change, each row from its entry on, and yes or no at the conditions of the row."""
    rng, events, answers = np.random.default_rng(6), [], []
    for i in range(15):
        frailty, rows = np.exp(0.3 * rng.normal()), []
        for _ in range(6):
            for start in range(5):
                z = rng.normal()
                lasts = rng.exponential(1 / (0.3 * frailty * np.exp(0.5 * z)))
                rows.append([start + min(lasts, 1.0), start, z, float(lasts < 1)])
                if lasts < 1:
                    break
        table = np.array(rows)
        events.append(Task(i, pd.DataFrame(table[:, :3], columns=["time", "from", "z"]), table[:, 3]))
        z = rng.normal(0, 1, 20)
        yes = rng.uniform(size=20) < 1 / (1 + np.exp(-(0.8 * rng.normal() + 0.7 * z)))
        answers.append(Task(i, pd.DataFrame({"z": z}), yes.astype(float)))

    def whole(X, h):
        return h.expand(len(X)) if h.ndim == 0 else h

    def probability(X, h):
        return torch.sigmoid(whole(X, h))

    cases = [
        (events, TimeToEvent(time="time", entry="from"), {"h": Parameter(0.5, lower=0)}, whole, 2, torch.exp),
        (answers, "bernoulli", {"h": 0.0}, probability, 0, None),
    ]
    for tasks, noise, constants, equation, column, factor in cases:

        def written_out(X, h, g, equation=equation, column=column, factor=factor):
            shift = g * X[:, column]
            return equation(X, h + shift if factor is None else h * factor(shift))

        settings = {"covariates": {"h": ["z"]}, "time_varying": ["z"], "noise": noise}
        follows = EquationRegressor(equation, constants, **settings).fit(tasks)
        by_hand = EquationRegressor(written_out, {**constants, "g": 0.0}, random=["h"], noise=noise).fit(tasks)
        assert follows.log_likelihood_ == pytest.approx(by_hand.log_likelihood_, abs=1e-5)
        row, written = follows.coefficients_.iloc[0], by_hand.population_.loc["g"]
        assert (row["coefficient"], row["standard_error"]) == pytest.approx(
            (written["value"], written["standard_error"]), rel=1e-3
        )
        assert abs(row["coefficient"] - (0.7 if noise == "bernoulli" else 0.5)) < 3 * row["standard_error"]


def test_saved_and_pickled_models_answer_the_same(tmp_path, tasks, model):
    X, y = tasks[0].X[:3], tasks[0].y[:3]
    save(model, tmp_path / "model.metaest")
    for other in (load(tmp_path / "model.metaest", equation=decay), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(other.adapt(X, y).predict(tasks[0].X), model.adapt(X, y).predict(tasks[0].X))
        assert other.summary() == model.summary()
        assert other.time_varying == ["heat"]
    save(model.adapt(X, y), tmp_path / "task.metaest")
    back = load(tmp_path / "task.metaest", model=model)
    np.testing.assert_array_equal(back.predict(tasks[0].X), model.adapt(X, y).predict(tasks[0].X))
    double = model.with_equation(lambda X, k, a: 2 * decay(X, k, a))
    np.testing.assert_allclose(double.predict(tasks[0].X), 2 * model.predict(tasks[0].X), rtol=1e-12)


# ---- populations


def test_a_population_holds_what_was_learned(tasks, model):
    population = Population.from_dict(model.to_population().to_dict())
    kept = EquationRegressor.from_population(decay, population, time_varying=["heat"])
    X, y = pd.DataFrame(tasks[0].X, columns=["t", "heat"]), tasks[0].y
    np.testing.assert_allclose(kept.predict(X), model.predict(X), rtol=1e-12)
    np.testing.assert_allclose(kept.adapt(X[:4], y[:4]).predict(X), model.adapt(X[:4], y[:4]).predict(X), rtol=1e-6)
    assert kept.log_likelihood(tasks).value == pytest.approx(model.log_likelihood_, abs=1e-6)
    updated = EquationRegressor.from_population(decay, population, time_varying=["heat"], prior_weight=20.0)
    updated = updated.fit(made(seed=9))
    assert updated.compiled_, updated.compiled_reason_
    again = updated.to_population()
    assert again.covariates["k"][0].slope == pytest.approx(model.coefficients_["coefficient"][0])
    # without the declaration the column is one of the task
    plain = EquationRegressor.from_population(decay, population)
    with pytest.raises(TaskError, match=r"'heat' is a covariate and belongs to the task.*by time_varying=\['heat'\]"):
        plain.adapt(X, y)
    with pytest.raises(TaskError, match=r"declare it by time_varying=\['heat'\]"):
        plain.adapt_many(tasks)


def published(**effects):
    return Population(
        {"k": Parameter(0.3, lower=0), "a": Parameter(3.0, lower=0)},
        Block(cv={"k": 0.2, "a": 0.2}),
        NoiseModel("additive", sd=0.05),
        covariates=effects,
        columns={"t": "h", "weight": "kg", "ward": ""},
    )


def test_formulas_are_those_of_each_row():
    population = published(k=[Power("weight", 0.75, reference=70), Category("ward", {0: 1.0, 1: 0.5})])
    X = pd.DataFrame({"t": [1.0, 1.0, 2.0], "weight": [70.0, 35.0, 35.0], "ward": [1.0, 1.0, 1.0]})
    model = EquationRegressor.from_population(decay, population, time_varying=["weight"])
    rate = 0.3 * 0.5 * (X["weight"] / 70) ** 0.75
    np.testing.assert_allclose(model.predict(X), 3 * np.exp(-rate * X["t"]), rtol=1e-12)
    by_rows = [model.predict(X[i : i + 1])[0] for i in range(3)]
    np.testing.assert_allclose(model.predict(X), by_rows, rtol=1e-12)
    # all rows alike: that of the task
    alike, plain = X.assign(weight=50.0), EquationRegressor.from_population(decay, population)
    y = [2.0, 2.1, 1.5]
    np.testing.assert_allclose(model.adapt(alike, y).predict(alike), plain.adapt(alike, y).predict(alike), rtol=1e-6)
    with pytest.raises(TaskError, match="row 1: covariate 'weight' is -3: a power needs values above 0"):
        model.predict(X.assign(weight=[70.0, -3.0, 35.0]))
    with pytest.raises(TaskError, match="task 'b': row 0: covariate 'weight' is 0"):
        model.adapt_many({"a": (X, y), "b": (X.assign(weight=0.0), y)})
    with pytest.raises(TaskError, match="'ward' is a covariate"):
        model.adapt(X.assign(ward=[0.0, 1.0, 1.0]), y)


def test_a_formula_of_a_column_that_varies_and_one_that_does_not():
    def renal(weight, ward):
        return (weight / 70) * (1 + ward)

    model = EquationRegressor.from_population(
        decay, published(k=Formula(renal, ("weight", "ward"))), time_varying="weight"
    )
    X = pd.DataFrame({"t": [1.0, 2.0], "weight": [70.0, 35.0], "ward": [1.0, 1.0]})
    rate = 0.3 * X["weight"] / 70 * 2
    np.testing.assert_allclose(model.predict(X), 3 * np.exp(-rate * X["t"]), rtol=1e-12)
    with pytest.raises(TaskError, match="'ward' is a covariate"):
        model.adapt(X.assign(ward=[0.0, 1.0]), [2.0, 1.0])


def test_saved_with_its_formulas(tmp_path):
    model = EquationRegressor.from_population(decay, published(k=Linear("weight", 0.01, 70)), time_varying=["weight"])
    save(model, tmp_path / "model.metaest")
    X = pd.DataFrame({"t": [1.0, 2.0], "weight": [70.0, 35.0], "ward": [1.0, 1.0]})
    np.testing.assert_array_equal(load(tmp_path / "model.metaest", equation=decay).predict(X), model.predict(X))


def test_a_population_that_does_not_read_the_column():
    with pytest.raises(ValueError, match="the population does not read a column 'ward'; it reads weight"):
        EquationRegressor.from_population(decay, published(k=Power("weight", 0.75)), time_varying=["ward"])


# ---- refusals


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"covariates": {"k": ["heat"]}}, TaskError, r"'heat' is a covariate .* declare it by time_varying=\['heat'\]"),
        ({"time_varying": ["heat"]}, ValueError, "'heat' is no covariate of a constant"),
        ({**FOLLOWS, "time_varying": ["heat", "t"]}, ValueError, "'t' is no covariate of a constant"),
        ({**FOLLOWS, "time_varying": ["cold"]}, ValueError, "time_varying: there is no column 'cold' in X"),
        ({**FOLLOWS, "time_varying": [7]}, ValueError, "time_varying: 7 is no column of X, which has 2"),
        ({**FOLLOWS, "time_varying": {"k": "heat"}}, TypeError, "time_varying must be a list of columns"),
        ({**FOLLOWS, "time_varying": np.array(1)}, TypeError, "time_varying must be a list of columns"),
        ({**FOLLOWS, "covariates": {"m": ["heat"]}}, ValueError, "'heat' is no covariate of a constant"),
        ({**FOLLOWS, "covariates": {"k": ["heat", 1]}}, TaskError, "linearly dependent over all rows"),
    ],
)
def test_what_cannot_be_is_refused(tasks, settings, error, message):
    with pytest.raises(error, match=message):
        EquationRegressor(decay, DECAY, **settings).fit(tasks)


def test_a_column_with_one_value_tells_nothing():
    tasks = [(np.column_stack([np.arange(1.0, 5), np.full(4, 3.0)]), np.arange(4.0)) for _ in range(5)]
    with pytest.raises(TaskError, match="column 1 is 3 in every row; it cannot tell the rows apart"):
        EquationRegressor(decay, DECAY, covariates={"k": [1]}, time_varying=[1]).fit(tasks)


def test_a_constant_of_every_row_is_no_number(tasks):
    def branching(X, k, a):
        return decay(X, k, a) if k > 0 else a + X[:, 0]

    def hidden(X, k, a):
        return a * torch.exp(-float(k) * X[:, 0])

    for equation in (branching, hidden):
        with pytest.raises(
            ValueError, match="takes k for one number, but with time_varying there is one for each row of X"
        ):
            EquationRegressor(equation, DECAY, **FOLLOWS).fit(tasks)


def test_an_equation_that_remembers_says_so(tasks):
    class Remembers:
        memory = "an amount depends on what a constant was before its row"

        def __call__(self, X, k, a):
            return decay(X, k, a)

    with pytest.raises(ValueError, match="time_varying: an amount depends on what a constant was before its row"):
        EquationRegressor(Remembers(), DECAY, **FOLLOWS).fit(tasks)
    of_outputs = EquationRegressor({1: Remembers(), 2: decay}, DECAY, output="run", **FOLLOWS)
    halves = TaskSet([Task(t.name, pd.DataFrame({"t": t.X[:, 0], "heat": t.X[:, 1], "run": 1.0 + (t.X[:, 0] > 1)}), t.y)
                      for t in tasks])  # fmt: skip
    with pytest.raises(ValueError, match="time_varying: an amount depends on what a constant was before its row"):
        of_outputs.fit(halves)
    with pytest.raises(TaskError, match="must be the same in all rows .* an amount depends on what") as raised:
        EquationRegressor(Remembers(), DECAY, covariates={"k": ["heat"]}).fit(tasks)
    assert "time_varying" not in str(raised.value)
