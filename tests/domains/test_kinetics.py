"""The kinetics catalogue: every equation finds its constants, and says what it was given that makes no sense."""

import pickle
from io import StringIO

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from metaest import IdentifiabilityWarning, Parameter, TaskError, TaskSet
from metaest_datasets import make_avrami_tasks
from metaest_domains import kinetics
from metaest_domains.kinetics import (
    AustinRickettRegressor,
    FirstOrderConversionRegressor,
    HollomonJaffeRegressor,
    JMAKArrheniusRegressor,
    JMAKRegressor,
    KineticRegressor,
    LogisticGrowthRegressor,
    MichaelisMentenRegressor,
    NonIsothermalJMAKRegressor,
    NthOrderConversionRegressor,
    ParallelJMAKRegressor,
    activation_energy,
    half_transformation_time,
    pre_exponential,
    read_curve_files,
    read_curves,
    time_to,
    ttt_curve,
)

R = 8.314462618e-3
FAMILIES = {
    "JMAK": (JMAKRegressor, {"k": 0.02, "n": 2.5}, {}),
    "JMAK, incubated": (
        JMAKRegressor,
        {"k": 0.02, "n": 1.5, "incubation": 8.0, "plateau": 0.7},
        {"random": ["k", "n"]},
    ),
    "JMAK, Arrhenius": (JMAKArrheniusRegressor, {"k_ref": 0.02, "E": 120.0, "n": 2.0}, {}),
    "parallel": (
        ParallelJMAKRegressor,
        {"k": 0.1, "n": 2.5, "w": 0.75, "k_2": 0.015},
        {"random": ["k", "n"]},
    ),
    "Austin-Rickett": (AustinRickettRegressor, {"k": 3.0, "n": 2.0}, {}),
    "ramp": (NonIsothermalJMAKRegressor, {"k_ref": 1e-3, "E": 180.0, "n": 1.5}, {}),
    "first order": (FirstOrderConversionRegressor, {"k_ref": 2e-3, "E": 90.0}, {}),
    "order n": (NthOrderConversionRegressor, {"k_ref": 2e-3, "E": 90.0, "order": 1.6}, {"random": ["k_ref", "E"]}),
    "tempering": (HollomonJaffeRegressor, {"a": 45.0, "b": 6.0, "C": 18.0}, {"random": ["a", "b"]}),
    "Michaelis-Menten": (MichaelisMentenRegressor, {"Vmax": 30.0, "Km": 0.02}, {}),
    "growth": (LogisticGrowthRegressor, {"K": 1e6, "r": 0.5, "midpoint": 20.0}, {}),
}


def inputs_of(name, constants, rng, n):
    if name in ("tempering",):
        return np.column_stack([10 ** rng.uniform(-2, 2, n), rng.uniform(450, 950, n)])
    if name == "Michaelis-Menten":
        return rng.uniform(0, 0.1, (n, 1))
    if name == "growth":
        return rng.uniform(0, 40, (n, 1))
    if name in ("ramp", "first order", "order n"):
        rate = rng.choice([0.05, 0.1, 0.2])
        return np.column_stack([rng.uniform(0, 400 / rate, n), np.full(n, 400.0), np.full(n, rate)])
    k = constants.get("k", constants.get("k_ref"))
    time = rng.uniform(0, (8.0 if name == "parallel" else 2.5) / k, n) + constants.get("incubation", 0.0)
    if name == "JMAK, Arrhenius":
        temperature = rng.choice([590.0, 600.0, 610.0])
        time *= np.exp(120 / R * (1 / temperature - 1 / 600))
        return np.column_stack([time, np.full(n, temperature)])
    return time[:, None]


def simulated(name, seed=0, n_tasks=30, n_rows=12):
    """Tasks drawn around the constants of the table, with noise of one per cent of the range."""
    family, constants, _ = FAMILIES[name]
    held = {"reference": {"ramp": 600.0, "JMAK, Arrhenius": 600.0, "tempering": 700.0}.get(name, 550.0)}
    held = {
        k: v
        for k, v in {**{"incubation": 0.0, "plateau": 1.0, "c": 0.0, "n_2": 1.0}, **held}.items()
        if k not in constants
    }
    model = family()
    formula = model._formula()
    rng = np.random.default_rng(seed)
    tasks = []
    for _ in range(n_tasks):
        own = {
            key: value * np.exp(0.1 * rng.standard_normal())
            if key not in ("incubation", "plateau", "C", "order", "w", "k_2")
            else value
            for key, value in constants.items()
        }
        X = inputs_of(name, constants, rng, n_rows)
        used = {k: v for k, v in held.items() if k in _arguments(family)}
        columns = torch.from_numpy(X).T
        tensors = {k: torch.tensor(v, dtype=torch.float64) for k, v in own.items()}
        tasks.append((X, formula(*columns, **tensors, **used).numpy()))
    size = np.ptp(np.concatenate([y for _, y in tasks]))
    return [(X, y + 0.01 * size * rng.standard_normal(n_rows)) for X, y in tasks], used


def _arguments(family):
    return {*family.constants, *family.optional_constants, "reference"} - (
        set() if "reference" in family.__doc__ else {"reference"}
    )


def ramps_tell_isothermal_times(adapted):
    """Check the times of a held temperature that a fit of ramps gives."""
    table = ttt_curve(adapted, [540.0, 600.0], [0.1, 0.9])
    assert (table["lower"] < table["time"]).all()
    assert (table["time"] < table["upper"]).all()
    held = np.column_stack([table["time"], table["temperature"], np.zeros(4)])  # a ramp that does not rise
    np.testing.assert_allclose(adapted.predict(held), table["fraction"], atol=1e-9)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
@pytest.mark.parametrize("name", FAMILIES)
def test_every_equation_finds_its_constants_whatever_their_units(name):
    family, constants, settings = FAMILIES[name]
    tasks, used = simulated(name)
    optional = [c for c in constants if c in family.optional_constants]
    fixed = {"reference": used["reference"]} if "reference" in used else None
    model = family(optional=optional, fixed=fixed, **settings).fit(tasks)
    error = [
        (model.population_.loc[c, "value"] - value) / model.population_.loc[c, "standard_error"]
        for c, value in constants.items()
    ]
    assert np.abs(error).max() < 4, dict(zip(constants, error, strict=True))
    np.testing.assert_allclose(model.population_.loc[list(constants), "value"], list(constants.values()), rtol=0.15)
    new, _ = simulated(name, seed=1, n_tasks=5)
    for X, y in new:
        adapted = model.adapt(X[:6], y[:6])
        assert adapted.score(X, y) > 0.9
    assert model.batching_ == "rows"
    pickle.loads(pickle.dumps(adapted)).predict(X)
    assert clone(model).get_params()["fixed"] == fixed
    assert set(model.fixed_) >= set(fixed or {})
    assert family.__name__.removesuffix("Regressor") in model.summary()
    if name in ("ramp", "first order", "order n"):
        ramps_tell_isothermal_times(model.adapt(*tasks[0]))
    if name == "ramp":
        with pytest.raises(ValueError, match=r"needs a temperature \(K\)"):
            half_transformation_time(adapted)


def test_a_new_equation_is_ten_lines():
    class ParabolicRegressor(KineticRegressor):
        """Growth limited by diffusion."""

        target = "thickness"
        constants = {"k": Parameter(1.0, lower=0, unit="um/h^0.5")}

        @staticmethod
        def formula(time, k):
            return k * torch.sqrt(time)

    rng = np.random.default_rng(0)
    t = np.array([1.0, 4.0, 9.0])
    tasks = [(t[:, None], k * np.sqrt(t) + 0.01 * rng.standard_normal(3)) for k in np.exp(0.1 * rng.standard_normal(9))]
    assert ParabolicRegressor().fit(tasks).population_.loc["k", "value"] == pytest.approx(1.0, rel=0.1)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_times_are_where_the_curve_gets_to():
    for name in ("JMAK", "Austin-Rickett", "parallel", "JMAK, Arrhenius"):
        family, _, settings = FAMILIES[name]
        tasks, _ = simulated(name)
        model = family(**settings).fit(tasks)
        X, y = tasks[0]
        adapted = model.adapt(X[:4], y[:4])
        where = {"temperature": 600.0} if X.shape[1] == 2 else {}
        for fraction in (0.01, 0.5, 0.99):
            found = time_to(adapted, fraction, **where)
            assert adapted.predict([[found.value, *where.values()]])[0] == pytest.approx(fraction, abs=1e-9)
            assert found.lower < found.value < found.upper
        half = half_transformation_time(adapted, **where)
        assert adapted.predict([[half.value, *where.values()]])[0] == pytest.approx(0.5, abs=1e-9)
    table = ttt_curve(adapted, [590.0, 610.0])
    assert table.shape == (6, 5)
    assert (table["time"].to_numpy()[:3] > table["time"].to_numpy()[3:]).all()
    assert pre_exponential(adapted).value == pytest.approx(
        np.log(adapted.params_.loc["k_ref", "value"])
        + activation_energy(adapted).value / (R * model.fixed_["reference"])
    )
    assert activation_energy(adapted).value == adapted.params_.loc["E", "value"]


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_a_time_beyond_the_plateau_is_never():
    tasks, _ = make_avrami_tasks(10, random_state=0)
    model = JMAKRegressor(fixed={"plateau": 0.7}).fit([(t.X, 0.7 * t.y) for t in tasks])
    adapted = model.adapt(tasks[0].X, 0.7 * tasks[0].y)
    assert time_to(adapted, 0.8) == (np.inf, np.inf, np.inf)
    assert np.isfinite(time_to(adapted, 0.69).upper)
    rng = np.random.default_rng(0)
    curves = [
        (t.X, np.exp(0.1 * rng.standard_normal()) * 0.7 * t.y) for t in make_avrami_tasks(30, random_state=1).tasks
    ]
    uncertain = JMAKRegressor(optional=["plateau"]).fit(curves).adapt([[0.4], [0.8]], [0.1, 0.35])
    assert uncertain.params_.loc["plateau", "lower_90"] < 0.68 < uncertain.params_.loc["plateau", "value"]
    found = time_to(uncertain, 0.68)
    assert np.isfinite([found.value, found.lower]).all()
    assert found.upper == np.inf


def test_a_fraction_that_is_there_at_the_start_takes_no_time():
    tasks, _ = make_avrami_tasks(20, random_state=0)
    begun = [(task.X[task.X[:, 0] > 0.4] - 0.4, task.y[task.X[:, 0] > 0.4]) for task in tasks]
    begun = [(X, y) for X, y in begun if len(y) > 3]
    adapted = JMAKRegressor(optional=["incubation"], random=["k", "n"]).fit(begun).adapt(*begun[0])
    assert adapted.params_.loc["incubation", "value"] < 0
    assert time_to(adapted, 0.01) == (0.0, 0.0, 0.0)
    assert adapted.predict([[0.0]])[0] > 0.01
    assert time_to(adapted, 0.9).value > 0


def test_an_incubation_time_scales_with_the_rate():
    rng = np.random.default_rng(0)

    def curve(k_ref):
        T = np.repeat([590.0, 600.0, 610.0], 8)
        k = k_ref * np.exp(-120 / R * (1 / T - 1 / 600))
        t = rng.uniform(0, 2.5, 24) / k
        return np.column_stack([t, T]), 1 - np.exp(
            -(np.maximum(k * t - 50 * k_ref, 0) ** 2)
        ) + 0.01 * rng.standard_normal(24)

    tasks = [curve(0.01 * np.exp(0.1 * rng.standard_normal())) for _ in range(12)]
    model = JMAKArrheniusRegressor(optional=["incubation"], fixed={"reference": 600.0}, random=["k_ref"])
    model.fit(tasks)
    assert model.population_.loc["n", "value"] == pytest.approx(2.0, abs=0.1)
    assert model.population_.loc["incubation", "value"] == pytest.approx(50, rel=0.05)
    adapted = model.adapt(*curve(0.01))
    k = 0.01 * np.exp(-120 / R * (1 / 700 - 1 / 600))
    found = ttt_curve(adapted, 700.0, [0.01]).iloc[0]
    assert found["time"] == pytest.approx((0.5 + (-np.log(0.99)) ** 0.5) / k, rel=0.1)


def test_questions_an_equation_cannot_answer():
    tasks, _ = make_avrami_tasks(10, random_state=0)
    adapted = JMAKRegressor().fit(tasks).adapt(tasks[0].X, tasks[0].y)
    for ask, message in (
        (lambda: time_to(adapted, 1.0), "fraction: a number above 0 and below 1 is wanted"),
        (lambda: time_to(adapted, 0.5, temperature=600.0), "JMAK does not depend on temperature"),
        (lambda: activation_energy(adapted), "JMAK has no activation energy"),
        (lambda: pre_exponential(adapted), "JMAK has no activation energy"),
    ):
        with pytest.raises(ValueError, match=message):
            ask()


@pytest.mark.parametrize("order", [0.5, 1 - 1e-7, 1.0, 1 + 1e-7, 2.0])
def test_times_of_order_n_at_and_around_one(order):
    at = {"temperature": 600.0, "k_ref": 0.1, "E": 90.0, "reference": 600.0}
    expected = 10 * -np.log(0.3) if abs(order - 1) < 1e-3 else 10 * (0.3 ** (1 - order) - 1) / (order - 1)
    found = NthOrderConversionRegressor.inverse(0.7, order=np.array([order]), **at)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optional": ["delay"]}, "optional: there is no 'delay'; there are incubation, plateau"),
        ({"fixed": {"m": 1.0}}, "fixed: there is no 'm'; there are k, n, incubation, plateau"),
        ({"parameters": {"m": 1.0}}, "parameters: there is no 'm'"),
        ({"columns": {"clock": 0}}, "columns: there is no 'clock'; there are time"),
        ({"columns": {"time": "t"}}, "columns: there is no column 't' in X, which has"),
        ({"fixed": {"n": -2.0}}, "fixed: n = -2 is not inside its bounds"),
        ({"fixed": {"plateau": 70.0}}, "fixed: plateau = 70 is not inside its bounds"),
        ({"fixed": {"plateau": -0.7}}, "fixed: plateau = -0.7 is not inside its bounds"),
        ({"fixed": {"incubation": np.nan}}, "fixed: incubation: a finite number is wanted, got nan"),
        ({"columns": {"time": 3}}, "columns: 'time' would be column 3 of X, which has 1"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        JMAKRegressor(**settings).fit(make_avrami_tasks(5, random_state=0).tasks)


@pytest.mark.parametrize("names", [["temperature", "Time"], ["temperature"], ["t", "batch"], ["Rate", "x"]])
def test_columns_of_other_names_are_not_taken_in_order(names):
    tasks, _ = make_avrami_tasks(6, random_state=0)
    X = np.column_stack([tasks.X] * len(names))
    named = TaskSet.from_arrays(X, tasks.y, np.repeat(tasks.names, tasks.sizes), feature_names=names)
    if "Time" in names:
        expected = JMAKRegressor().fit(tasks).log_likelihood_
        assert JMAKRegressor().fit(named).log_likelihood_ == expected
    else:
        with pytest.raises(ValueError, match="columns: which column of X holds 'time'"):
            JMAKRegressor().fit(named)


def test_two_columns_of_other_names_are_not_taken_in_order():
    tasks, _ = simulated("JMAK, Arrhenius", n_tasks=6)
    X = np.concatenate([X for X, _ in tasks])
    y = np.concatenate([y for _, y in tasks])
    named = TaskSet.from_arrays(X[:, ::-1], y, np.repeat(range(6), 12), feature_names=["T_K", "t_s"])
    with pytest.raises(ValueError, match="columns: which column of X holds 'time'"):
        JMAKArrheniusRegressor().fit(named)
    model = JMAKArrheniusRegressor(columns={"time": "t_s", "temperature": "T_K"}, random=["k_ref"]).fit(named)
    assert model.population_.loc["E", "value"] == pytest.approx(120, rel=0.1)
    with pytest.raises(ValueError, match="fixed: reference = 127: .*kelvin"):
        JMAKArrheniusRegressor(fixed={"reference": 127.0}).fit(tasks)


@pytest.mark.parametrize("scale", [1e-6, 1e-2, 1.0, 1e5])
def test_units_of_time_do_not_matter(scale):
    tasks, _ = make_avrami_tasks(20, random_state=0)
    curves = [(scale * task.X, task.y) for task in tasks]
    model = JMAKRegressor(optional=["incubation"], random=["k", "n"]).fit(curves)
    assert model.population_.loc["k", "value"] * scale == pytest.approx(1.0, rel=0.2)
    assert abs(model.population_.loc["incubation", "value"]) < 0.1 * scale


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_rows_to_predict_are_checked_too():
    tasks, _ = simulated("JMAK, Arrhenius")
    model = JMAKArrheniusRegressor().fit(tasks)
    X, y = tasks[0]
    adapted = model.adapt(X, y)
    many = model.adapt_many(tasks[:2])
    celsius = X - [0.0, 500.0]
    for ask in (model.predict, model.predict_interval, model.suggest, adapted.predict, adapted.suggest, many.predict):
        with pytest.raises(TaskError, match=r"(predict|predict_interval|suggest): temperature is .* kelvin"):
            ask(celsius)
    for temperature in (0.0, 100.0):
        with pytest.raises(ValueError, match="temperature is .* kelvin"):
            time_to(adapted, 0.5, temperature=temperature)
    with pytest.raises(ValueError, match="temperature is .* kelvin"):
        ttt_curve(adapted, 100.0)
    with pytest.raises(TaskError, match="predict: time is -1 in row 0"):
        model.predict([[-1.0, 600.0]])


def test_held_constants_count_in_answers():
    tasks, _ = simulated("JMAK, Arrhenius")
    adapted = JMAKArrheniusRegressor(fixed={"E": 120.0, "reference": 600.0}).fit(tasks).adapt(*tasks[0])
    assert activation_energy(adapted) == (120.0, 120.0, 120.0)
    expected = np.log(adapted.params_.loc["k_ref", "value"]) + 120 / (R * 600)
    assert pre_exponential(adapted).value == pytest.approx(expected)
    for name in ("tempering", "Michaelis-Menten"):
        other, _ = simulated(name, n_tasks=10)
        one = FAMILIES[name][0]().fit(other).adapt(*other[0])
        with pytest.raises(ValueError, match="has no activation energy: it has no constant 'E'"):
            activation_energy(one)
        with pytest.raises(ValueError, match="has no formula for the time at which a (hardness|rate) is reached"):
            time_to(one, 0.5)
    with pytest.raises(ValueError, match="the result of adapt of an estimator of metaest_domains.kinetics is required"):
        time_to(FAMILIES["growth"][0](), 0.5)


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_the_time_to_a_size():
    tasks, _ = simulated("growth")
    adapted = LogisticGrowthRegressor().fit(tasks).adapt(*tasks[0])
    found = time_to(adapted, 4e5)
    assert adapted.predict([[found.value]])[0] == pytest.approx(4e5)


def test_fractions_that_fall():
    tasks, _ = make_avrami_tasks(10, random_state=0)
    with pytest.raises(ValueError, match="y falls with time in 10 of 10 tasks; y must be the transformed fraction"):
        JMAKRegressor().fit([(task.X, 1 - task.y) for task in tasks])


@pytest.mark.filterwarnings("ignore::metaest.CorrelatedResidualsWarning")  # in wrong units the curve misses the rows
def test_hours_of_tempering():
    tasks, _ = simulated("tempering", n_tasks=10)
    with pytest.raises(TaskError, match="task 0: time is 0 in row 0: time must be above 0"):
        HollomonJaffeRegressor().fit([(X * [i > 0 for i in range(2)], y) for X, y in tasks])
    with pytest.warns(UserWarning, match="half of the times are above 500: times must be in hours"):
        HollomonJaffeRegressor(random=["a"]).fit([(X * [3600, 1], y) for X, y in tasks])
    model = HollomonJaffeRegressor(random=["a"]).fit(tasks)
    X, y = tasks[0]
    for ask in (lambda: model.adapt(X * [3600, 1], y), lambda: model.predict(X * [3600, 1])):
        with pytest.warns(UserWarning, match="half of the times are above 500: times must be in hours"):
            ask()
    with pytest.warns(UserWarning, match="no temperature is above 500: temperatures must be in kelvin"):
        HollomonJaffeRegressor(random=["a"], fixed={"C": 18.0}).fit([(X * [1, 0.3] + [0, 190], y) for X, y in tasks])
    model.predict([[1.0, 473.15]])  # steel is tempered there too
    with pytest.raises(TaskError, match="temperature is 200 in row 0: temperatures must be in kelvin"):
        model.predict([[1.0, 200.0]])


def test_columns_are_found_by_name():
    tasks, _ = make_avrami_tasks(12, random_state=0)
    frame = pd.DataFrame(
        {"batch": 1.0, "time": tasks.X[:, 0], "X": tasks.y, "curve": np.repeat(tasks.names, tasks.sizes)}
    )
    named = TaskSet.from_frame(frame, task="curve", features=["batch", "time"], target="X")
    expected = JMAKRegressor().fit(tasks).log_likelihood_
    assert JMAKRegressor().fit(named).log_likelihood_ == expected
    other = TaskSet.from_frame(frame.rename(columns={"time": "t"}), task="curve", features=["batch", "t"], target="X")
    assert JMAKRegressor(columns={"time": "t"}).fit(other).log_likelihood_ == expected


@pytest.fixture(scope="module")
def model():
    return JMAKRegressor().fit(make_avrami_tasks(30, random_state=0).tasks)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([[1.0], [-0.5]], [0.3, 0.1], "time is -0.5 in row 1: time cannot be negative"),
        ([[1.0], [2.0]], [0.3, 57.0], "y is 57 in row 1: y must be a fraction between 0 and 1 .divide per cent by 100"),
        ([[1.0]], [-0.2], "y is -0.2 in row 0: y must be a fraction"),
    ],
)
def test_rows_that_cannot_be_are_refused_everywhere(model, X, y, message):
    with pytest.raises(TaskError, match=f"adapt: {message}"):
        model.adapt(X, y)
    with pytest.raises(TaskError, match=f"task 'bad': {message}"):
        model.adapt_many(TaskSet.from_mapping({"bad": (X, y)}))
    with pytest.raises(TaskError, match=f"task 'bad': {message}"):
        JMAKRegressor().fit(TaskSet.from_mapping({"good": ([[1.0]], [0.5]), "bad": (X, y)}))
    adapted = model.adapt([[0.5], [1.0]], [0.2, 0.6])
    with pytest.raises(
        TaskError, match=f"partial_adapt: {message.replace('row 1', 'row 3').replace('row 0', 'row 2')}"
    ):
        adapted.partial_adapt(X, y)


def test_celsius_is_not_kelvin():
    tasks, _ = simulated("JMAK, Arrhenius", n_tasks=6)
    celsius = [(X - [0.0, 500.0], y) for X, y in tasks]
    with pytest.raises(TaskError, match="task 0: temperature is .* temperatures must be in kelvin .* add 273.15"):
        JMAKArrheniusRegressor().fit(celsius)
    ramp, _ = simulated("ramp", n_tasks=6)
    with pytest.raises(TaskError, match="task 0: start is 25 .* kelvin"):
        NonIsothermalJMAKRegressor().fit([(X - [0.0, 375.0, 0.0], y) for X, y in ramp])


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning")
def test_a_little_noise_beyond_the_ends_is_fine(model):
    adapted = model.adapt([[0.0], [2.5]], [-0.03, 1.04])
    assert np.isfinite(adapted.predict([[0.0], [1.0]])).all()


def test_a_curve_that_never_transforms_gets_a_slow_rate_and_a_word(model):
    t = np.array([[0.05], [0.1], [0.15]])
    with pytest.warns(IdentifiabilityWarning, match="cannot tell"):
        early = model.adapt(t, [0.0, 0.0, 0.0])
    assert not early.params_["identified"].all()
    # zeros at times when all other curves are through tell of a rate far below the population's
    with pytest.warns(UserWarning, match="no curve of this population comes near these rows|cannot tell"):
        never = model.adapt(10 * t, [0.0, 0.0, 0.0])
    assert never.params_.loc["k", "value"] < 0.7 * model.population_.loc["k", "value"]


def test_a_curve_that_is_complete_at_its_first_point_cannot_tell_its_exponent(model):
    with pytest.warns(IdentifiabilityWarning, match="cannot tell .*n"):
        done = model.adapt([[3.0], [4.0]], [1.0, 1.0])
    table = done.params_
    assert not table.loc["n", "identified"]
    assert half_transformation_time(done).upper < 3.0


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning", "ignore::metaest.UnlikelyTaskWarning")
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_training_curve_that_never_moves_does_no_harm(level):
    tasks = [(task.X, task.y) for task in make_avrami_tasks(30, random_state=0).tasks]
    times = [[4.0], [5.0], [6.0]] if level else [[0.01], [0.02], [0.05]]
    found = JMAKRegressor().fit([*tasks, (times, np.full(3, level))]).population_["value"]
    np.testing.assert_allclose(found, JMAKRegressor().fit(tasks).population_["value"], rtol=0.05)


def test_only_curves_that_never_transform():
    with pytest.warns(ConvergenceWarning):
        JMAKRegressor().fit([([[1.0], [2.0], [3.0]], [0.0, 0.0, 0.0]) for _ in range(5)])


def test_readers(tmp_path):
    tasks, _ = make_avrami_tasks(3, 4, random_state=0)
    frame = pd.DataFrame({"curve": np.repeat(["A", "B", "C"], 4), "time": tasks.X[:, 0], "fraction": tasks.y})
    frame.to_csv(tmp_path / "long.csv", index=False, sep=";", decimal=",")
    read = read_curves(tmp_path / "long.csv", sep=";", decimal=",")
    assert read.names.tolist() == ["A", "B", "C"]
    np.testing.assert_allclose(read.y, tasks.y)
    for name, own in frame.groupby("curve"):
        own.drop(columns="curve").to_csv(tmp_path / f"{name}.csv", index=False)
    conditions = pd.DataFrame({"temperature": [600.0, 610.0, 620.0]}, index=["A", "B", "C"])
    files = [tmp_path / f"{name}.csv" for name in "ABC"]
    both = read_curve_files(files, conditions=conditions)
    assert list(both.feature_names) == ["time", "temperature"]
    assert both[1].X[0, 1] == 610.0
    with pytest.raises(TaskError, match="curve 'C' has no row in conditions"):
        read_curve_files(files, conditions=conditions[:2])
    with pytest.raises(TaskError, match="several files have the same name"):
        read_curve_files([files[0], tmp_path / "." / "A.csv"])
    for wrong in (lambda: read_curve_files(str(files[0])), lambda: read_curves(frame, inputs="time")):
        with pytest.raises(TypeError, match="must be a list of"):
            wrong()
    with pytest.raises(
        TaskError, match="there is no column 'X'; the frame has .'curve', 'time', 'fraction'.*by target="
    ):
        read_curves(frame, target="X")
    with pytest.raises(TypeError, match="condition: options of pd.read_csv do not apply to a data frame"):
        read_curves(frame, condition="T")
    with pytest.raises(TaskError, match="column 'time' holds '.*' in row 0, which is not a number; .*decimal=','"):
        read_curves(tmp_path / "long.csv", sep=";")


def test_readers_heed_or_name_what_is_in_a_file(tmp_path):
    frame = pd.DataFrame({"curve": ["A", "A", "B", "B"], "time": [1.0, 2, 1, 2], "fraction": [0.1, 0.4, 0.2, 0.5]})
    with pytest.warns(
        UserWarning, match="read_curves: columns 'T', 'operator' were not read; name conditions in inputs="
    ):
        assert read_curves(frame.assign(T=600.0, operator="x")).feature_names == ("time",)
    with pytest.raises(TaskError, match="column 'time' holds time differences.*divide them by pd.Timedelta"):
        read_curves(frame.assign(time=pd.to_timedelta(frame["time"], unit="s")))
    with pytest.raises(TaskError, match="column 'time' holds dates"):
        read_curves(frame.assign(time=pd.Timestamp("2024-01-01")))
    with pytest.raises(TaskError, match="looks like a row of units: column 'time' holds 's' there"):
        read_curves(StringIO("curve,time,fraction\n,s,-\nA,1,0.2\nA,2,0.5\n"))
    (tmp_path / "A.csv").write_text("time,temperature,fraction\n1,600,0.2\n2,600,0.5\n")
    with pytest.raises(TaskError, match="column 'temperature' is also in conditions"):
        read_curve_files([tmp_path / "A.csv"], conditions=pd.DataFrame({"temperature": [610.0]}, index=["A"]))
    (tmp_path / "B.csv").write_text("curve,time,fraction\nX,1,0.2\nY,2,0.5\n")
    with pytest.raises(TaskError, match="column 'curve' is made from the file names"):
        read_curve_files([tmp_path / "B.csv"])


def test_two_columns_of_one_name_in_other_spelling_are_asked_about():
    X = pd.DataFrame({"time": [1.0, 2.0], "Time": [10.0, 20.0]})
    tasks = TaskSet.from_arrays(pd.concat([X] * 3), [0.1, 0.4] * 3, ["A", "A", "B", "B", "C", "C"])
    with pytest.raises(ValueError, match="several columns of X may hold 'time'.*write columns={'time': ...}"):
        JMAKRegressor().fit(tasks)


def test_decimal_commas_do_not_shift_columns(tmp_path):
    commas = StringIO("curve,time,hardness\nA,1,45,5\nA,2,40,5\nB,1,50,5\n")
    with pytest.raises(TaskError, match=r"have more fields .*decimal=','"):
        read_curves(commas, target="hardness")
    with pytest.raises(TypeError, match="index_col would hide rows"):
        read_curves(StringIO("n,curve,time,fraction\n1,A,1,45,5\n"), index_col=0)
    assert read_curves(StringIO("curve, time, fraction\nA, 1, 0.5\n"), sep=", ", engine="python").y.tolist() == [0.5]
    assert read_curves(StringIO("curve;time;fraction\nA;1;0.5\n"), sep=None, engine="python").y.tolist() == [0.5]
    objects = pd.DataFrame({"curve": "A", "time": pd.Series([1.0, 2.0], dtype=object), "fraction": [0.1, 0.2]})
    assert read_curves(objects).X.tolist() == [[1.0], [2.0]]
    path = tmp_path / "600.csv"
    path.write_text("time,fraction\n1,0.2\n2,0.5\n")
    tasks = read_curve_files([path], conditions=pd.DataFrame({"temperature": [600.0]}, index=[600]))
    assert tasks.X.tolist() == [[1.0, 600.0], [2.0, 600.0]]
    with pytest.raises(TaskError, match="conditions: curve '600' occurs twice"):
        read_curve_files([path], conditions=pd.DataFrame({"temperature": [600.0, 610.0]}, index=[600, 600]))


def test_everything_public_is_documented():
    for name in kinetics.__all__:
        assert getattr(kinetics, name).__doc__
