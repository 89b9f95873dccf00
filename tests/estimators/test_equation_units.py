"""An equation knows no units: y and every column multiplied by a number, and all constants by theirs."""

import numpy as np
import pytest
import torch

from metaest import EquationRegressor, Parameter, TaskSet
from metaest.functional import Equation, Observations
from metaest.functional.equations.probing import choose_mode

pytestmark = pytest.mark.filterwarnings("ignore")
T = np.linspace(0.5, 10, 8)
EXTREMES = [(1e-12, 1.0), (1e12, 1.0), (1.0, 1e-12), (1.0, 1e12), (1e-12, 1e12), (1e6, 1e-6)]


def decay(X, start, rate):
    return start * torch.exp(-rate * X[:, 0])


def line(X, level, slope):
    return level + slope * X[:, 0]


def saturation(X, top, half):
    return top * X[:, 0] / (half + X[:, 0])


def growth(X, top, rate, midpoint):
    return top * torch.sigmoid(rate * (X[:, 0] - midpoint))


def dose_so_far(X, gain, rate):
    """Rows see each other: an integral over the rows before."""
    t = X[:, 0]
    return gain * torch.cumsum(torch.exp(-rate * t) * torch.diff(t, prepend=0 * t[:1]), 0)


# initial value, bounds, powers of the units of y and of the column
PROBLEMS = {
    "decay": (decay, {"start": (6.0, 0, None, 1, 0), "rate": (0.3, 0, None, 0, -1)}),
    "line": (line, {"level": (1.0, None, None, 1, 0), "slope": (1.0, None, None, 1, -1)}),
    "line from zero": (line, {"level": (0.0, None, None, 1, 0), "slope": (0.0, None, None, 1, -1)}),
    "saturation": (saturation, {"top": (6.0, 0, 100.0, 1, 0), "half": (1.0, 0.01, 50.0, 0, 1)}),
    "growth": (growth, {"top": (6.0, 0, None, 1, 0), "rate": (1.0, 0, None, 0, -1), "midpoint": (2.0, None, None, 0, 1)}),
    "dose so far": (dose_so_far, {"gain": (2.0, 0, None, 1, -1), "rate": (0.3, None, None, 0, -1)}),
}  # fmt: skip
TRUTH = {
    "decay": lambda a, b: 8 * a * np.exp(-0.25 * b * T),
    "line": lambda a, b: 3 * a + 2 * b * T,
    "line from zero": lambda a, b: 3 * a + 2 * b * T,
    "saturation": lambda a, b: 10 * a * T / (2 * b + T),
    "growth": lambda a, b: 10 * a / (1 + np.exp(4 * b - 0.9 * T)),
    "dose so far": lambda a, b: 3 * a * np.cumsum(np.exp(-0.25 * b * T) * np.diff(T, prepend=T[0])),
}


def tasks_of(name, noise, unit, column):
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(10):
        y = TRUTH[name](*np.exp(0.2 * rng.standard_normal(2)))
        scatter = 0.15 if noise == "additive" else 0.08 * np.abs(y) + 0.02
        weight = rng.uniform(50, 90)
        pairs.append(
            (np.column_stack([column * T, np.full(8, column * weight)]), unit * (y + scatter * rng.normal(size=8)))
        )
    return TaskSet(pairs)


def answers(name, noise, unit, column, **settings):
    equation, table = PROBLEMS[name]
    of = {constant: unit**power * column**of_column for constant, (*_, power, of_column) in table.items()}
    parameters = {
        constant: Parameter(initial * of[constant], *(None if end is None else end * of[constant] for end in (low, high)))
        for constant, (initial, low, high, *_) in table.items()
    }  # fmt: skip
    tasks = tasks_of(name, noise, unit, column)
    model = EquationRegressor(equation, parameters, noise=noise, random_state=0, **settings).fit(tasks[:9])
    X, y = tasks[9].X, tasks[9].y
    adapted = model.adapt(X[:4], y[:4], guard=True)
    c = np.array(list(of.values()))
    sd = {"additive": [unit], "proportional": [1.0], "combined": [unit, 1.0]}[noise]
    numbers = {
        "constants": model.population_["value"] / c,
        "standard errors": model.population_["standard_error"] / c,
        "noise": model.noise_ / sd,
        "log-likelihood": model.log_likelihood_ + len(tasks[:9].X) * np.log(unit),
        "adapted": adapted.params_["value"] / c,
        "ends": adapted.params_[["lower_90", "upper_90"]].to_numpy() / c[:, None],
        "interval": np.stack(adapted.predict_interval(X)) / unit,
        "share": adapted.guard_.share,
    }
    return numbers, (model.batching_, adapted.guard_.decision, model.population_.index.tolist())


def agree(name, noise, units, tolerance=1e-6, **settings):
    expected, chosen = answers(name, noise, 1.0, 1.0, **settings)
    for unit, column in units:
        got, choices = answers(name, noise, unit, column, **settings)
        assert choices == chosen
        for what, values in expected.items():
            size = np.abs(np.asarray(values)).max()
            np.testing.assert_allclose(
                got[what], values, rtol=tolerance, atol=tolerance * size, err_msg=f"{what} {unit} {column}"
            )


@pytest.mark.parametrize(
    ("name", "noise"),
    [("decay", "proportional"), ("line from zero", "additive"), ("saturation", "combined"), ("growth", "additive"),
     ("dose so far", "additive")],
)  # fmt: skip
def test_units(name, noise):
    agree(name, noise, EXTREMES[::2] if name != "dose so far" else [(1e-12, 1e12)])


@pytest.mark.parametrize(
    "settings",
    [
        {"objective": "query", "support_size": 4, "n_episodes": 8, "random": ["rate"]},
        {"objective": "query", "inner_solver": "gradient", "support_size": 3, "max_iter": 20},
        {"covariates": {"rate": [1]}, "covariance": "diagonal"},
        {"compile": True},
    ],
    ids=["query", "gradient", "covariates", "compiled"],
)
def test_units_of_other_settings(settings):
    agree("decay", "additive", [(1e-12, 1e12)], **settings)


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["additive", "proportional", "combined"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_units_everywhere(name, noise):
    # the additive part of that noise goes to zero, where the evidence is flat in its logarithm
    agree(name, noise, EXTREMES, 1e-5 if (name, noise) == ("growth", "combined") else 1e-6)


def test_units_of_rate_constants_and_prefactors():
    """SI units of a molecule, and a prefactor of 1e15 with an energy in joules."""

    def bound(X, most, affinity):
        return most * X[:, 0] / (affinity + X[:, 0])

    def rate(X, A, E):
        return torch.log(A) - E / (8.314462618 * X[:, 0])

    rng, x, T = np.random.default_rng(0), np.geomspace(1e-14, 1e-11, 9), np.linspace(400, 600, 9)
    molecules = TaskSet(
        [
            (x[:, None], 2e-13 * x / (3e-13 * np.exp(0.2 * rng.normal()) + x) + 2e-15 * rng.normal(size=9))
            for _ in range(12)
        ]
    )
    model = EquationRegressor(bound, {"most": Parameter(1e-13, lower=0), "affinity": Parameter(1e-13, lower=0)})
    model.fit(molecules)
    assert model.population_["value"].tolist() == pytest.approx([2e-13, 3e-13], rel=0.2)
    assert model.batching_ == "rows"
    logs = TaskSet(
        [
            (
                T[:, None],
                np.log(3e15) - 1.2e5 * np.exp(0.01 * rng.normal()) / (8.314462618 * T) + 0.01 * rng.normal(size=9),
            )
            for _ in range(12)
        ]
    )
    model = EquationRegressor(rate, {"A": Parameter(1e15, lower=0), "E": Parameter(1e5)}, random=["E"]).fit(logs)
    assert model.population_["value"].tolist() == pytest.approx([3e15, 1.2e5], rel=0.1)


@pytest.mark.parametrize("unit", [1e-18, 1.0, 1e18])
def test_rows_that_see_each_other_are_seen_in_any_unit(unit):
    def centred(X, a):
        return a * (X[:, 0] - X[:, 0].mean())

    X = unit * torch.linspace(0, 1, 12, dtype=torch.float64).reshape(2, 6, 1)
    observations = Observations.stack(X, torch.zeros(2, 6).double(), torch.ones(2, 6).double())
    theta = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    assert choose_mode(Equation(centred, ["a"]), theta, observations)[0] == "vmap"
