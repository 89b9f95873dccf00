"""One small fitted model of every public class, what it adapts to, and a question to ask before and after a file."""

import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from equations import averaging, wave
from metaest import (
    AutoMetaClassifier,
    AutoMetaRegressor,
    EquationRegressor,
    FewShotClassifier,
    FewShotRegressor,
    HierarchicalGPRegressor,
    MAMLClassifier,
    MAMLPolicy,
    MAMLRegressor,
    Parameter,
    Population,
    PopulationAverage,
    RandomCoefficientRegressor,
    StudentT,
    Task,
    TaskSet,
    load,
)
from metaest.population import Block, NoiseModel
from metaest.selection.ensemble import Member
from metaest.selection.gaussian_classes import HierarchicalGaussianClassifier
from metaest.selection.indicators import IndicatorClassifier
from metaest_datasets import load_theophylline, make_sinusoids
from metaest_domains import kinetics, physiology, trading

WAVES = make_sinusoids(12, noise=0.1, random_state=0)
NETWORK = {"hidden_layer_sizes": (6,), "max_iter": 3, "random_state": 0}


class Case(NamedTuple):
    """How a model is fitted, what it is adapted to, and what is asked of both."""

    fit: Callable[[], Any]
    adapt: Callable[[Any], list[Any]]
    ask: Callable[[Any], Any]
    passed: dict[str, Any] = {}
    keep_rows: bool = False


def curves():
    def adapt(model):
        one = model.adapt(WAVES[11].X[:5], WAVES[11].y[:5], guard=True)
        return [one, model.adapt([], []), model.adapt_many(WAVES[9:])]

    def ask(thing):
        return list(thing.predict(WAVES[10].X, return_std=True))

    return Case(lambda: HierarchicalGPRegressor(random_state=0).fit(WAVES[:6]), adapt, ask, keep_rows=True)


def module(n_features, n_targets):
    return torch.nn.Sequential(
        torch.nn.Linear(n_features, 5), torch.nn.BatchNorm1d(5), torch.nn.Tanh(), torch.nn.Linear(5, n_targets)
    )


def labelled(shape=(2,)):
    rng = np.random.default_rng(0)
    return TaskSet([
        Task(i, rng.standard_normal((16, *shape)), np.tile(["high", "low"], 8)) for i in range(6)
    ])  # fmt: skip


def regression(rows=5, **settings):
    def adapt(model):
        one = model.adapt(WAVES[11].X[:rows], WAVES[11].y[:rows])
        return [one, model.adapt([], []), model.adapt_many(WAVES[9:])]

    def ask(thing):
        found = thing.predict(WAVES[10].X)
        return (
            thing.predict(WAVES[10].X, return_std=True)
            if settings.get("inner_solver") in ("bayes", "evidence") and (not hasattr(thing, "tasks"))
            else found
        )

    passed = {"module": settings["module"]} if "module" in settings else {}
    return Case(lambda: MAMLRegressor(**NETWORK, **settings).fit(WAVES[:9]), adapt, ask, passed)


def average():
    candidates = [
        ("gradient", MAMLRegressor(**NETWORK)),
        ("head", MAMLRegressor(inner_solver="ridge", **NETWORK)),
    ]
    model = AutoMetaRegressor(candidates=candidates, shots=(1, 3), random_state=0)
    return Case(lambda: model.fit(WAVES[:9]), regression().adapt, lambda thing: thing.predict(WAVES[10].X))


def judged():
    def fit():
        model = MAMLRegressor(**NETWORK, support_size=4).fit(WAVES[:8])
        return model.calibrate(WAVES[8:11], support_size=4)

    def ask(thing):
        return thing.predict_interval(WAVES[10].X, 0.5)

    return Case(fit, lambda model: [model.adapt(WAVES[11].X[:4], WAVES[11].y[:4], guard=False)], ask)


def coefficients(base):
    rows = TaskSet([Task(t.name, np.column_stack([t.X, t.X**2]), t.y) for t in WAVES])

    def adapt(model):
        one = model.adapt(rows[11].X[:4], rows[11].y[:4], guard=base is None)
        return [one, model.adapt([], []), model.adapt_many(rows[9:])]

    def ask(thing):
        return thing.predict(rows[10].X, return_std=True)

    def fit():
        model = RandomCoefficientRegressor(base, random=[0], random_state=0).fit(rows[:8])
        return model.calibrate(rows[8:11], support_size=4)

    return Case(fit, adapt, ask)


def classification(shape=(2,), **settings):
    def adapt(model):
        return [model.adapt(labelled(shape)[5].X, labelled(shape)[5].y)]

    def ask(thing):
        if not getattr(thing, "shared_labels_", True):  # there is no answer without a task
            return [own.detach().numpy() for own in thing.module_.parameters()]
        return thing.predict_proba(labelled(shape)[0].X)

    return Case(lambda: MAMLClassifier(**NETWORK, **settings).fit(labelled(shape)[:5]), adapt, ask)


def class_average():
    candidates = [
        ("gaussian", HierarchicalGaussianClassifier()),
        ("head", MAMLClassifier(inner_solver="ridge", shared_labels=True, **NETWORK)),
        ("linear", IndicatorClassifier(RandomCoefficientRegressor("linear", random=[0], random_state=0))),
    ]
    model = AutoMetaClassifier(candidates=candidates, shots=3, cv=2, random_state=0)

    def fit():
        fitted = model.fit(labelled()[:5])
        # each in the average, whatever the comparison says
        members = [Member(name, 1 / 3, clone(one).fit(labelled()[:5]), False) for name, one in candidates]
        fitted._ensemble = replace(fitted._ensemble, members=tuple(members))
        return fitted

    def adapt(model):
        return [model.adapt(labelled()[5].X[:4], labelled()[5].y[:4]), model.adapt_many(labelled()[4:])]

    def ask(thing):
        return np.concatenate(thing.predict_proba(labelled()[0].X), axis=None)

    return Case(fit, adapt, ask)


def few_shot(cls, inner):
    def fit():
        task = inner.adapt(model := inner.fit())[0]
        return cls(model).fit(task.X_support_, task.y_support_)

    return Case(fit, lambda model: [], inner.ask)


def policy():
    rng = np.random.default_rng(0)
    tasks = [Task(i, rng.standard_normal((60, 2)), rng.standard_normal(60)) for i in range(6)]
    return Case(
        lambda: MAMLPolicy(**NETWORK, support_size=20, query_size=20).fit(tasks[:5]),
        lambda model: [model.adapt(tasks[5].X[:20], tasks[5].y[:20])],
        lambda thing: thing.predict(tasks[0].X),
    )


def equation(make, tasks, passed=None, rows=4):
    def adapt(model):
        one = model.adapt(tasks[-1].X[:rows], tasks[-1].y[:rows], guard=False)
        return [one, model.adapt_many(tasks[-2:])]

    def ask(thing):
        if hasattr(thing, "tasks"):
            return thing.predict(tasks[0].X)
        return [*thing.predict(tasks[0].X, return_std=True), *thing.predict_interval(tasks[0].X)]

    return Case(lambda: make().fit(TaskSet(tasks[:-1])), adapt, ask, passed or {})


def two_outputs():
    """Two outputs, the second a wave of half the size, below and above whose values limits lie."""

    def rows(task):
        output = np.tile([1.0, 2.0], 40)[: len(task.X)]
        X = np.column_stack([task.X, output, np.full(len(output), -1.5), np.full(len(output), 9.0)])
        return Task(task.name, X, np.where(output == 1, task.y, task.y / 2))

    tasks = [rows(task) for task in WAVES]
    names = ("x", "output", "low", "high")
    tasks = [Task(task.name, pd.DataFrame(task.X, columns=list(names)), task.y) for task in tasks]
    settings = {"output": "output", "noise": {1: "combined", 2: "additive"}, "limit": "low", "upper_limit": "high"}
    case = equation(
        lambda: EquationRegressor(
            {1: wave, 2: half_wave}, {"amplitude": Parameter(2.0, lower=0), "phase": 1.5}, **settings, random_state=0
        ),
        tasks,
        {"objects": [wave, half_wave]},
    )
    return case


def half_wave(X, amplitude, phase):
    return wave(X, amplitude, phase) / 2


def units():
    visit = np.tile([1.0, 1.0, 2.0], 40)[: len(WAVES[0].X)]

    def rows(task):
        return np.column_stack([task.X, visit])

    def fit():
        model = EquationRegressor(
            wave, {"amplitude": Parameter(2.0, lower=0), "phase": 1.5}, levels={1: ["phase"]}, random_state=0
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return model.fit({task.name: (rows(task), task.y) for task in WAVES[:9]})

    def adapt(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            X, y = rows(WAVES[11]), WAVES[11].y
            within = model.adapt(X[:2] + np.array([0.0, 7.0]), y[:2], within=WAVES[0].name)
            return [model.adapt(X[:5], y[:5]), model.adapt([], []), within, model.adapt_many({"new": (X, y)})]

    def ask(thing):
        if hasattr(thing, "tasks"):
            return [thing.predict(thing.tasks), thing.params_["value"].to_numpy()]
        return list(thing.predict(rows(WAVES[10]), return_std=True))

    return Case(fit, adapt, ask, {"equation": wave})


def averaged_equation():
    volts = {"amplitude": Parameter(2.0, lower=0, unit="V"), "phase": 1.5}
    model = EquationRegressor(wave, volts, random=["amplitude"], noise="auto", random_state=0)
    case = equation(lambda: model, list(WAVES), {"equation": wave})

    def fit():
        with averaging():
            return case.fit()

    return case._replace(fit=fit)


def population_average():
    def published(amplitude, noise):
        constants = {"amplitude": Parameter(amplitude, lower=0), "phase": 1.5}
        population = Population(constants, Block(sd={"amplitude": 0.5, "phase": 0.8}), noise, columns={"x": "rad"})
        return EquationRegressor.from_population(wave, population)

    parts = [("low", published(1.0, NoiseModel("additive", sd=0.1)))]
    parts.append(("high", FrozenEstimator(published(4.0, NoiseModel("combined", sd=0.1, cv=0.2)))))
    average = PopulationAverage(parts, weights={"low": 2, "high": 1}, support_size=4, random_state=0)
    case = equation(lambda: average, list(WAVES), {"equation": wave})
    return case._replace(fit=lambda: average.fit(WAVES[:3]).calibrate(WAVES[3:9]))


def kinetic(name, **settings):
    rng = np.random.default_rng(0)
    columns = {
        "time": np.linspace(0.5, 10, 8), "temperature": np.tile([650.0, 700.0], 4), "start": np.full(8, 600.0),
        "rate": np.full(8, 20.0), "concentration": np.linspace(0.2, 9, 8), "history": np.tile([1.0, 2.0], 4),
    }  # fmt: skip
    model = getattr(kinetics, name)(max_iter=2, random_state=0, **settings)
    X = np.column_stack([columns[own] for own in model._inputs()])
    rise = 1 - np.exp(-((0.2 * X[:, 0]) ** 2))
    scale = 1.0 if model.target == "fraction" else 5.0
    names = tuple(model._inputs())
    tasks = [Task(i, X, scale * rise ** np.exp(0.1 * rng.normal()), feature_names=names) for i in range(6)]
    return equation(lambda: model, tasks)


def minimal_model():
    measured, level = [0.0, 4.0, 20.0, 60.0, 180.0], [10.0, 90.0, 40.0, 20.0, 10.0]
    X = physiology.insulin_rows([2.0, 10.0, 40.0, 90.0], measured, level, 90.0, 10.0)
    tasks = [(X, np.array([260.0, 230.0, 150.0, 95.0]) + shift) for shift in (0.0, 10.0, -5.0)]

    def adapt(model):
        return [model.adapt(*tasks[2])]

    def make():
        return physiology.MinimalModelRegressor(random=["start"], max_iter=1, random_state=0).fit(tasks[:2])

    return Case(make, adapt, lambda thing: thing.predict(X))


def forecaster():
    time = np.arange(0.0, 2.5 * 1440, 5)

    def person(rise):
        return time[:, None], 120 + rise * np.sin(2 * np.pi * time / 240)

    return Case(
        lambda: physiology.GlucoseForecaster(max_iter=2, random_state=0).fit([person(20), person(30)]),
        lambda model: [model.adapt(*(part[:120] for part in person(35)), guard=False)],
        lambda thing: thing.predict(*(part[288:330] for part in person(35))),
    )


def trader():
    rng = np.random.default_rng(0)
    days = pd.bdate_range("2020-01-01", periods=300)
    prices = pd.DataFrame(100 * np.exp(np.cumsum(0.01 * rng.standard_normal((300, 4)), axis=0)), days, list("abcd"))
    learner = MAMLPolicy(**NETWORK, support_size=40, query_size=40)
    return Case(
        lambda: trading.TradingPolicy(learner).fit(prices[list("abc")]),
        lambda model: [model.adapt(prices["d"].iloc[:200])],
        lambda thing: thing.positions(prices["d"]),
    )


HISTORIES = {1: ([0, 5, 100], [700, 650, 650]), 2: ([0, 9, 100], [700, 690, 690])}
PATIENTS = [Task(own.name, own.X, own.y, feature_names=own.feature_names) for own in load_theophylline()][:7]
# few samples and a short time, for equations that are slow to solve
EARLY = [Task(task.name, task.X[1:7], task.y[1:7], feature_names=task.feature_names) for task in PATIENTS[-4:]]
CASES = {
    "MAMLRegressor": regression(),
    "MAMLRegressor, judged and calibrated": judged(),
    "MAMLRegressor, Bayes": regression(inner_solver="bayes"),
    "MAMLRegressor, evidence": regression(inner_solver="evidence", rank=4),
    "MAMLRegressor, context": regression(context_dim=2),
    "MAMLRegressor, head": regression(adapt_layers="head", learn_inner_lr="per-layer-and-step"),
    "MAMLRegressor, doubles": regression(dtype="float64", learn_inner_lr="per-parameter"),
    "MAMLRegressor, module": regression(module=module, support_size=4),
    "MAMLRegressor, module and ridge": regression(module=module(1, 1), inner_solver="ridge", support_size=4),
    "MAMLRegressor, statistics": regression(normalization="batch", batch_statistics="per-step", support_size=4),
    "AutoMetaRegressor": average(),
    "AutoMetaClassifier": class_average(),
    "MAMLClassifier": classification(support_size=4),
    "MAMLClassifier, ridge": classification(inner_solver="ridge", support_size=4),
    "MAMLClassifier, own labels": classification(n_way=2, k_shot=3),
    "MAMLClassifier, images": classification((1, 8, 8), n_way=2, k_shot=3),
    "MAMLPolicy": policy(),
    "HierarchicalGPRegressor": curves(),
    "RandomCoefficientRegressor": coefficients("boosting"),
    "RandomCoefficientRegressor, linear": coefficients("linear"),
    "RandomCoefficientRegressor, judged": coefficients(None),
    "FewShotRegressor": few_shot(FewShotRegressor, regression()),
    "FewShotClassifier": few_shot(FewShotClassifier, classification(support_size=4)),
    "EquationRegressor": equation(
        lambda: EquationRegressor(wave, {"amplitude": Parameter(2.0, lower=0, unit="V"), "phase": 1.5}, random_state=0),
        list(WAVES),
        {"equation": wave},
    ),
    "EquationRegressor of outcomes": equation(
        lambda: EquationRegressor(
            wave,
            {"amplitude": Parameter(2.0, lower=0, unit="V"), "phase": 1.5},
            noise=StudentT(degrees_of_freedom=5.0),
            random_state=0,
        ),
        list(WAVES),
        {"equation": wave},
    ),
    "EquationRegressor of structures": averaged_equation(),
    "EquationRegressor with levels": units(),
    "EquationRegressor of two outputs": two_outputs(),
    "EquationRegressor that follows a column": equation(
        lambda: EquationRegressor(
            wave,
            {"amplitude": Parameter(2.0, lower=0), "phase": 1.5},
            covariates={"amplitude": [1]},
            time_varying=[1],
            random_state=0,
        ),
        [Task(own.name, np.column_stack([own.X, np.cos(3 * own.X)]), own.y) for own in WAVES],
        {"equation": wave},
    ),
    "PopulationAverage": population_average(),
    "AustinRickettRegressor": kinetic("AustinRickettRegressor"),
    "FirstOrderConversionRegressor": kinetic("FirstOrderConversionRegressor"),
    "HollomonJaffeRegressor": kinetic("HollomonJaffeRegressor"),
    "JMAKArrheniusRegressor": kinetic("JMAKArrheniusRegressor"),
    "JMAKRegressor": kinetic("JMAKRegressor", optional=["plateau"]),
    "LogisticGrowthRegressor": kinetic("LogisticGrowthRegressor"),
    "kinetics.MichaelisMentenRegressor": kinetic("MichaelisMentenRegressor"),
    "NonIsothermalJMAKRegressor": kinetic("NonIsothermalJMAKRegressor"),
    "NonIsothermalJMAKRegressor, histories": kinetic("NonIsothermalJMAKRegressor", histories=HISTORIES),
    "NthOrderConversionRegressor": kinetic("NthOrderConversionRegressor"),
    "ParallelJMAKRegressor": kinetic("ParallelJMAKRegressor"),
    "OneCompartmentRegressor": equation(
        lambda: physiology.OneCompartmentRegressor(allometric="weight", max_iter=2, random_state=0), PATIENTS
    ),
    "TwoCompartmentRegressor": equation(
        # its second derivatives take seconds to trace; machine code is kept to one compartment
        lambda: physiology.TwoCompartmentRegressor(max_iter=1, random_state=0, compile=False),
        EARLY,
    ),
    "LinearCompartmentRegressor": equation(
        lambda: physiology.LinearCompartmentRegressor(random=["clearance"], max_iter=1, random_state=0), EARLY
    ),
    "physiology.MichaelisMentenRegressor": equation(
        lambda: physiology.MichaelisMentenRegressor(max_iter=1, random_state=0), EARLY[-3:]
    ),
    "MinimalModelRegressor": minimal_model(),
    "GlucoseForecaster": forecaster(),
    "TradingPolicy": trader(),
}


def answers(folder, names):
    """Load what lies in a folder, and write what it answers beside it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            case = CASES[name]
            model = load(Path(folder) / name, **case.passed)
            things = [model, *(load(own, model=model) for own in sorted(Path(folder).glob(f"{name}.*")))]
            np.save(Path(folder) / f"answers of {name}.npy", flat([case.ask(own) for own in things]))


def flat(found):
    """Return all numbers of an answer."""
    if isinstance(found, (list, tuple)):
        return np.concatenate([flat(own) for own in found])
    return np.asarray(found, dtype=np.float64).ravel()


if __name__ == "__main__":
    if sys.argv[1] == "without":
        sys.modules["llvmlite"] = None
    answers(sys.argv[2], sys.argv[3:])
