"""Print a SHA-256 of what estimators learn and predict, to tell whether a change left every bit as it was.

The script uses public names only, so that the same file runs on two versions of the code: write the answers of one with
``--output``, run the other with ``--compare``. Equal digests are promised on one machine and one thread.

::

    python tests/benchmarks/accuracy/same_answers.py --output before.json
    python tests/benchmarks/accuracy/same_answers.py --compare before.json
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by numpy and torch when they are imported

import argparse
import hashlib
import json
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from metaest import EquationRegressor, MAMLClassifier, MAMLPolicy, MAMLRegressor, Parameter, Task, TaskSet
from metaest_datasets import (
    load_orange,
    load_sleepstudy,
    load_theophylline,
    make_linear_tasks,
    make_market,
    make_sinusoids,
)
from metaest_domains import kinetics, physiology
from metaest_domains.trading import PriceFeatures, TradingPolicy

sys.path.insert(0, str(Path(__file__).parents[2]))
from variants import VARIANTS, quadratic_tasks

Answers = Iterator[tuple[str, Any]]

# ---------------------------------------------------------------- digests


def update(sha: Any, value: Any) -> None:
    """Feed one value to a hash, by its content and not by the class that holds it."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, pd.DataFrame):
        value = {str(column): value[column].to_numpy() for column in value}
    elif isinstance(value, pd.Series):
        value = {str(key): value[key] for key in value.index}
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            sha.update(f"[{key}]".encode())
            update(sha, value[key])
    elif isinstance(value, (list, tuple)):
        sha.update(f"({len(value)})".encode())
        for part in value:
            update(sha, part)
    elif value is None or isinstance(value, str):
        sha.update(repr(value).encode())
    else:
        array = np.asarray(value)
        if array.dtype == object:
            update(sha, array.tolist())
            return
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), np.array(np.nan, array.dtype), array)
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).tobytes())


def answer_of(case: Callable[[], Answers]) -> dict[str, Any]:
    """Run a case; return the digest of each of its parts, and the warnings it raised."""
    digests: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for part, value in case():
                sha = digests.setdefault(part, hashlib.sha256())
                update(sha, value)
        except Exception as error:  # a refusal is an answer as well
            digests["raised"] = hashlib.sha256(f"{type(error).__name__}: {error}".encode())
            print(f"  raised {type(error).__name__}: {error}", file=sys.stderr)
    counts = Counter(warning.category.__name__ for warning in caught)
    return {**{part: sha.hexdigest() for part, sha in digests.items()}, "warnings": dict(sorted(counts.items()))}


# ---------------------------------------------------------------- networks

# the papers' variants as settings of MAMLRegressor
NETWORKS: dict[str, dict[str, Any]] = {**VARIANTS, "iMAML": {**VARIANTS["iMAML"], "inner_steps": 6}}
PROBLEMS: dict[str, Callable[[], TaskSet]] = {
    "sinusoid": lambda: make_sinusoids(12, random_state=0),
    "linear": lambda: make_linear_tasks(12, random_state=0)[0],
    "quadratic": quadratic_tasks,
    "theophylline": load_theophylline,
}
# most of the time goes into compiling, which grows with layers and steps; the network has layers of different sizes, so that no two are mistaken for each other
SMALL = {
    "hidden_layer_sizes": (6, 5),
    "inner_steps": 2,
    "max_iter": 30,
    "support_size": (2, 4),
    "random_state": 0,
}


def rates_of(model: Any) -> Any:
    """Return the learned rates, wherever the kind of estimator has them."""
    return getattr(model, "inner_lr_", None)


def learned(model: Any) -> Any:
    """Return what a meta-learned network consists of."""
    history = model.history_.drop(columns="seconds")
    return [model.module_.state_dict(), rates_of(model), history, model.n_iter_, model.feature_range_]


def network(variant: str, problem: str, compiled: bool) -> Answers:
    tasks = PROBLEMS[problem]()
    model = MAMLRegressor(**{**SMALL, **NETWORKS[variant]}, compile=compiled).fit(tasks)
    yield "parameters", learned(model)
    task = tasks[3]
    yield "predictions", model.predict(task.X)
    for rows in (1, 4):
        adapted = model.adapt(task.X[:rows], task.y[:rows])
        yield "predictions", adapted.predict(task.X)
    yield "predictions", adapted.partial_adapt(task.X[4:6], task.y[4:6]).predict(task.X)
    yield "predictions", model.score(tasks)
    if variant == "ALPaCA":
        yield "predictions", adapted.predict(task.X, return_std=True)


def network_settings(**settings: Any) -> Answers:
    tasks = make_sinusoids(12, random_state=0)
    model = MAMLRegressor(**{**SMALL, **settings}).fit(tasks)
    yield "parameters", learned(model)
    adapted = model.adapt(tasks[0].X[:3], tasks[0].y[:3])
    yield "predictions", [model.predict(tasks[0].X), adapted.predict(tasks[0].X), model.score(tasks)]


def network_guard() -> Answers:
    tasks = make_sinusoids(40, 12, noise=0.1, random_state=0)
    model = MAMLRegressor(**SMALL).fit(tasks[:30])
    yield "parameters", learned(model)
    for rows in (1, 3, 6):
        task = tasks[30 + rows]
        guarded = model.adapt(task.X[:rows], task.y[:rows], guard=True)
        yield "parameters", guarded.guard_.share
        yield "predictions", guarded.predict(task.X)
    gapped = model.adapt(task.X[:6], task.y[:6], guard=True, gap=1)
    yield "predictions", [gapped.guard_.share, gapped.predict(task.X)]


def network_intervals() -> Answers:
    tasks = make_sinusoids(60, 12, noise=0.1, random_state=0)
    model = MAMLRegressor(**SMALL).fit(tasks[:30]).calibrate(tasks[30:])
    yield "parameters", learned(model)
    task = tasks[0]
    yield "predictions", tuple(model.predict_interval(task.X, level=0.8))
    adapted = model.adapt(task.X[:4], task.y[:4])
    for simultaneous in (False, True):
        yield "predictions", tuple(adapted.predict_interval(task.X, level=0.8, simultaneous=simultaneous))
    model.calibrate(tasks[30:], support_size=3, guard=True)
    guarded = model.adapt(task.X[:3], task.y[:3], guard=True)
    yield "predictions", tuple(guarded.predict_interval(task.X, level=0.8))


def network_adapt_many() -> Answers:
    tasks = make_sinusoids(30, 8, noise=0.1, random_state=0)
    model = MAMLRegressor(**SMALL).fit(tasks[:20])
    support = [(task.X[: 2 + i % 3], task.y[: 2 + i % 3]) for i, task in enumerate(tasks[20:])]
    for guard in (False, True):
        many = model.adapt_many(support, guard=guard)
        yield "predictions", [many.predict(tasks[0].X), many.predict(TaskSet(support))]
        yield "predictions", [adapted.predict(tasks[0].X) for adapted in many]


# ---------------------------------------------------------------- classifiers and policies


def tasks_with_names_of_their_own() -> TaskSet:
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(9):
        n_classes = 2 + i % 3
        y = np.repeat(np.arange(n_classes), 3 + np.arange(n_classes))
        rows = rng.normal(3 * rng.standard_normal((n_classes, 2))[y], 0.5)
        tasks.append(Task(f"t{i}", rows, np.char.add(f"t{i} class ", y.astype(str))))
    return TaskSet(tasks)


def tasks_of_shared_classes() -> TaskSet:
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(9):
        y = np.array(["ill", "well"])[rng.integers(2, size=12)]
        rows = rng.standard_normal((12, 2)) + 2.0 * (y == "ill")[:, None] + rng.standard_normal(2)
        tasks.append(Task(i, rows, y))
    return TaskSet(tasks)


def classifier(make: Callable[[], TaskSet], compiled: bool, **settings: Any) -> Answers:
    tasks = make()
    few = {
        "hidden_layer_sizes": (6, 5),
        "inner_steps": 2,
        "max_iter": 30,
        "meta_batch_size": 6,
        "random_state": 0,
        "compile": compiled,
    }
    model = MAMLClassifier(**{**few, **settings}).fit(tasks)
    yield "parameters", learned(model)
    for i in (2, 4):
        adapted = model.adapt(tasks[i].X, tasks[i].y)
        yield "predictions", [adapted.predict_proba(tasks[i].X), adapted.predict(tasks[i].X).tolist()]
    yield "predictions", model.score(tasks)
    yield "predictions", model.task_scores(tasks).to_numpy()
    if model.shared_labels_:
        guarded = model.adapt(tasks[1].X[:5], tasks[1].y[:5], guard=True)
        yield "predictions", [model.predict_proba(tasks[0].X), guarded.guard_.share, guarded.predict_proba(tasks[1].X)]


def markets() -> TaskSet:
    rng = np.random.default_rng(0)
    tasks = []
    for i in range(10):
        X = rng.standard_normal((90, 2))
        y = 0.5 * rng.choice([-1.0, 1.0]) * X[:, 0] + rng.standard_normal(90)
        tasks.append(Task(f"asset {i}", X, y))
    return TaskSet(tasks)


def policy(compiled: bool, **settings: Any) -> Answers:
    tasks = markets()
    few = {
        "hidden_layer_sizes": (6,),
        "inner_steps": 2,
        "support_size": 20,
        "query_size": 30,
        "max_iter": 30,
        "random_state": 0,
        "compile": compiled,
    }
    model = MAMLPolicy(**{**few, **settings}).fit(tasks)
    yield "parameters", learned(model)
    adapted = model.adapt(tasks[0].X[:40], tasks[0].y[:40])
    yield "predictions", [model.predict(tasks[0].X), adapted.predict(tasks[0].X), model.score(tasks)]
    yield "predictions", [one.predict(tasks[0].X) for one in model.adapt_many([(t.X[:30], t.y[:30]) for t in tasks])]


def trading() -> Answers:
    prices, _ = make_market(8, 260, random_state=0)
    learner = MAMLPolicy(hidden_layer_sizes=(4,), support_size=40, query_size=40, max_iter=30, random_state=0)
    model = TradingPolicy(learner, PriceFeatures((1, 2, 5), 10)).fit(prices)
    yield "parameters", learned(model.policy_)
    yield "predictions", model.positions(prices).to_numpy()


# ---------------------------------------------------------------- equations


def line(X: Any, a: Any, b: Any) -> Any:
    return a + b * X[:, 0]


def absorption(X: Any, Ke: Any, Ka: Any, Cl: Any) -> Any:
    t, dose = X[:, 0], X[:, 1]
    return dose * Ke * Ka / Cl / (Ka - Ke) * (torch.exp(-Ke * t) - torch.exp(-Ka * t))


def logistic(X: Any, height: Any, half: Any, width: Any) -> Any:
    return height / (1 + torch.exp((half - X[:, 0]) / width))


def positive(**values: float) -> dict[str, Parameter]:
    return {name: Parameter(value, lower=0) for name, value in values.items()}


EQUATIONS: dict[str, tuple[Any, ...]] = {
    "theophylline": (load_theophylline, absorption, positive(Ke=0.1, Ka=1.5, Cl=0.04), {}),
    "Orange": (load_orange, logistic, positive(height=200, half=700, width=300), {"random": ["height"]}),
    "sleepstudy": (load_sleepstudy, line, {"a": 250.0, "b": 10.0}, {}),
}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "evidence": {},
    "query": {"objective": "query", "n_episodes": 6},
    "gradient": {"objective": "query", "inner_solver": "gradient", "max_iter": 60},
    "gradient, first order": {
        "objective": "query",
        "inner_solver": "gradient",
        "max_iter": 60,
        "meta_gradient": "first-order",
    },
}


def population(model: Any) -> Any:
    """Return what a fitted equation consists of."""
    tables = [model.population_, model.coefficients_, model.covariance_, model.noise_, model.task_params_]
    return [*tables, model.log_likelihood_, model.aic_, model.bic_, model.history_, model.n_iter_]


def questions(model: Any, tasks: Any, rows: int = 4) -> Answers:
    """Ask a fitted equation all that it answers about a task."""
    X, y = tasks[0].X, tasks[0].y
    yield "predictions", [model.predict(X), model.predict_mean(X), model.predict_interval(X)]
    yield "predictions", model.score(tasks)
    adapted = model.adapt(X[:rows], y[:rows])
    yield "parameters", [adapted.params_, adapted.status_, adapted.laplace_share_]
    yield "predictions", [adapted.predict(X, return_std=True), adapted.predict_mean(X), adapted.predict_interval(X)]


def equation(data: str, objective: str, **settings: Any) -> Answers:
    load, function, parameters, noise_and_random = EQUATIONS[data]
    tasks = load()
    model = EquationRegressor(
        function, parameters, **{**noise_and_random, **OBJECTIVES[objective], "random_state": 0, **settings}
    ).fit(tasks)
    yield "parameters", population(model)
    yield from questions(model, tasks)
    X, y = tasks[1].X, tasks[1].y
    yield "predictions", model.simulate(X, 3, random_state=0)
    yield "predictions", model.summary()
    if objective == "evidence":
        adapted = model.adapt(X[:3], y[:3])
        yield "predictions", [adapted.simulate(X, 3, random_state=0), adapted.suggest(X[3:], 2), model.suggest(X, 2)]
        varying = model.population_.index[model.population_["between_task_sd"] > 0]
        yield "predictions", adapted.profile(varying[0], n_points=7)


def equation_guard_intervals_many() -> Answers:
    load, function, parameters, _ = EQUATIONS["theophylline"]
    tasks = load()
    model = EquationRegressor(function, parameters, random_state=0).fit(tasks[:8])
    for rows in (1, 3, 6):
        guarded = model.adapt(tasks[9].X[:rows], tasks[9].y[:rows], guard=True)
        yield "parameters", [guarded.guard_.share, guarded.params_]
        yield "predictions", [guarded.predict(tasks[9].X), guarded.predict_interval(tasks[9].X)]
    support = [(task.X[:3], task.y[:3]) for task in tasks[8:]]
    for guard in (False, True):
        many = model.adapt_many(support, guard=guard)
        yield "parameters", many.params_
        yield "predictions", [many.predict(tasks[0].X), many.predict(TaskSet(support))]
    model.calibrate(tasks[8:])
    adapted = model.adapt(tasks[0].X[:3], tasks[0].y[:3])
    for level in (0.5, 0.7):
        yield "predictions", tuple(adapted.predict_interval(tasks[0].X, level=level, method="conformal"))
        yield "predictions", tuple(model.predict_interval(tasks[0].X, level=level, method="conformal"))


# ---------------------------------------------------------------- catalogues

R = 8.314462618e-3  # kJ/mol/K


def _avrami(t: Any, k: Any, n: Any) -> Any:
    return 1 - np.exp(-((k * np.maximum(t, 0)) ** n))


def _thermal_time(t: Any, start: Any, rate: Any, k_ref: float, E: float, reference: float) -> Any:
    """Integrate an Arrhenius rate along a ramp by the trapezoidal rule."""
    grid = np.linspace(0, 1, 401)[:, None] * t
    speed = k_ref * np.exp(-E / R * (1 / (start + rate * grid) - 1 / reference))
    return np.trapezoid(speed, grid, axis=0)


def _ramp(rng: np.random.Generator, n: int) -> Any:
    rate = rng.choice([0.05, 0.1, 0.2])
    return np.column_stack([np.sort(rng.uniform(0, 400 / rate, n)), np.full(n, 400.0), np.full(n, rate)])


def _around(rng: np.random.Generator, value: float) -> float:
    return float(value * np.exp(0.1 * rng.standard_normal()))


def kinetic_tasks(name: str, n_tasks: int = 10, n: int = 9) -> list[tuple[Any, Any]]:
    """Simulate tasks of a family with noise of one per cent of the range."""
    rng, tasks = np.random.default_rng(0), []
    for _ in range(n_tasks):
        k, exponent = _around(rng, 0.02), _around(rng, 2.0)
        t = np.sort(rng.uniform(0, 125, n))
        X = t[:, None]
        if name == "JMAK":
            y = _avrami(t, k, exponent)
        elif name == "JMAK, incubated":
            y = 0.7 * _avrami(t - 8, k, exponent)
        elif name == "JMAK, Arrhenius":
            T = np.full(n, rng.choice([590.0, 600.0, 610.0]))
            X, y = np.column_stack([t, T]), _avrami(t, k * np.exp(-120 / R * (1 / T - 1 / 600)), exponent)
        elif name == "parallel":
            y = 0.75 * _avrami(t, 5 * k, 2.5) + 0.25 * _avrami(t, 0.015, 1.0)
        elif name == "Austin-Rickett":
            power = (k * t) ** exponent
            y = power / (1 + power)
        elif name == "tempering":
            X = np.column_stack([10 ** rng.uniform(-2, 2, n), rng.uniform(450, 950, n)])
            away = (X[:, 1] * (18 + np.log10(X[:, 0])) - 700 * 18) / 1000
            y = _around(rng, 45) - _around(rng, 6) * away
        elif name == "Michaelis-Menten":
            X = rng.uniform(0, 0.1, (n, 1))
            y = _around(rng, 30) * X[:, 0] / (0.02 + X[:, 0])
        elif name == "growth":
            X = rng.uniform(0, 40, (n, 1))
            y = _around(rng, 1e6) / (1 + np.exp(-_around(rng, 0.5) * (X[:, 0] - 20)))
        else:
            X = _ramp(rng, n)
            energy, at = (180.0, 600.0) if name == "ramp" else (90.0, 550.0)
            theta = _thermal_time(*X.T, k_ref=_around(rng, 2e-3), E=energy, reference=at)
            y = {
                "ramp": 1 - np.exp(-(theta**1.5)),
                "first order": 1 - np.exp(-theta),
                "order n": 1 - (1 + 0.6 * theta) ** (-1 / 0.6),
            }[name]
        tasks.append((X, y))
    size = np.ptp(np.concatenate([y for _, y in tasks]))
    return [(X, y + 0.01 * size * rng.standard_normal(n)) for X, y in tasks]


KINETICS: dict[str, tuple[Any, dict[str, Any]]] = {
    "JMAK": (kinetics.JMAKRegressor, {}),
    "JMAK, incubated": (
        kinetics.JMAKRegressor,
        {"optional": ["incubation", "plateau"], "random": ["k", "n"]},
    ),
    "JMAK, Arrhenius": (kinetics.JMAKArrheniusRegressor, {}),
    "parallel": (kinetics.ParallelJMAKRegressor, {"random": ["k", "n"]}),
    "Austin-Rickett": (kinetics.AustinRickettRegressor, {}),
    "ramp": (kinetics.NonIsothermalJMAKRegressor, {}),
    "first order": (kinetics.FirstOrderConversionRegressor, {}),
    "order n": (kinetics.NthOrderConversionRegressor, {"random": ["k_ref", "E"]}),
    "tempering": (kinetics.HollomonJaffeRegressor, {"random": ["a", "b"]}),
    "Michaelis-Menten": (kinetics.MichaelisMentenRegressor, {}),
    "growth": (kinetics.LogisticGrowthRegressor, {}),
}


def kinetic(name: str) -> Answers:
    family, settings = KINETICS[name]
    tasks = TaskSet(kinetic_tasks(name))
    model = family(**settings, random_state=0).fit(tasks)
    yield "parameters", [population(model), model.fixed_]
    yield from questions(model, tasks)


def patient_records(infused: bool, two: bool, n: int) -> pd.DataFrame:
    """Simulate patients after two doses by superposed exponentials, in one tidy frame."""
    rng, frames = np.random.default_rng(0), []
    for i in range(n):
        weight = rng.uniform(50, 110)
        volume, rate = 20 * _around(rng, weight / 70), _around(rng, 0.15)
        times = np.sort(rng.uniform(0.5, 36, 6))
        seen = np.zeros_like(times)
        for start in (0.0, 12.0):
            age = np.maximum(times - start, 0)
            if infused:
                given = (np.exp(-rate * np.maximum(age - 1, 0)) - np.exp(-rate * age)) / rate
            else:
                given = 1.05 / (1.05 - rate) * (np.exp(-rate * age) - np.exp(-1.05 * age))
            seen += 100 / volume * (given + (0.4 * given * np.exp(-0.5 * age) if two else 0.0))
        seen = seen * np.exp(0.1 * rng.standard_normal(len(times)))
        doses = pd.DataFrame({"time": [0.0, 12.0], "dose": 100.0, "hours": 1.0 if infused else 0.0})
        samples = pd.DataFrame({"time": times, "concentration": seen})
        frames.append(pd.concat([doses, samples]).assign(patient=f"P{i}", weight=weight))
    return pd.concat(frames, ignore_index=True)


def compartments(family: Any, route: str, two: bool, n: int = 10, **settings: Any) -> Answers:
    infused = route == "iv"
    frame = patient_records(infused, two, n)
    patients = physiology.read_patients(frame, covariates=["weight"], duration="hours" if infused else None)
    model = family(route=route, allometric="weight", noise="proportional", random_state=0, **settings).fit(patients)
    yield "parameters", population(model)
    yield from questions(model, patients, rows=3)


def minimal_model() -> Answers:
    rng, pairs = np.random.default_rng(0), []
    times = np.array([2.0, 10.0, 40.0, 90.0, 180.0])
    for _ in range(4):
        rows = physiology.insulin_rows(times, [0, 4, 20, 60, 180], [10, 90, 40, 20, 10], 90.0, 10.0)
        glucose = 90 + _around(rng, 170) * np.exp(-_around(rng, 0.03) * times)
        pairs.append((rows, glucose + rng.standard_normal(len(times))))
    model = physiology.MinimalModelRegressor(random=["sensitivity"], max_iter=3, random_state=0).fit(pairs)
    yield "parameters", population(model)
    rows, glucose = pairs[0]
    adapted = model.adapt(rows[:3], glucose[:3])
    yield "parameters", adapted.params_
    yield "predictions", [model.predict(rows), adapted.predict(rows), adapted.predict_interval(rows)]


def glucose_forecaster() -> Answers:
    people = []
    for i, rise in enumerate((20, 25, 30, 40)):
        minutes = np.arange(0.0, 3 * 1440, 5)
        noise = np.random.default_rng(i).normal(size=len(minutes))
        people.append((minutes[:, None], 130 + rise * np.sin(2 * np.pi * minutes / 200) + noise))
    model = physiology.GlucoseForecaster(max_iter=30, n_days=2, random_state=0).fit(TaskSet(people))
    X, y = people[0]
    adapted = model.adapt(X[:400], y[:400])
    yield "predictions", [model.predict(X[:400], y[:400]), adapted.predict(X[400:500], y[400:500])]


# ---------------------------------------------------------------- all cases


def cases() -> dict[str, Callable[[], Answers]]:
    """Return every case by its name."""
    table: dict[str, Callable[[], Answers]] = {}
    for problem in PROBLEMS:
        for variant in NETWORKS:
            for compiled in (False, True):
                name = f"network / {variant} / {problem} / {'compiled' if compiled else 'torch'}"
                table[name] = lambda v=variant, p=problem, c=compiled: network(v, p, c)
    settings: dict[str, dict[str, Any]] = {
        "batch normalisation": {"normalization": "batch", "batch_statistics": "per-step"},
        "layer normalisation": {"normalization": "layer"},
        "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
        "first rows": {"split": "first", "support_size": 3},
        "float64": {"dtype": "float64"},
        "a rate too large": {"inner_lr": 20.0},
        "parts": {"max_batch_bytes": 20_000},
    }
    for name, changed in settings.items():
        table[f"network / {name}"] = lambda changed=changed: network_settings(**changed)
    table |= {
        "network / guard": network_guard,
        "network / calibrate, predict_interval": network_intervals,
        "network / adapt_many": network_adapt_many,
    }
    for compiled in (False, True):
        how = "compiled" if compiled else "torch"
        for kind, make in (("shared labels", tasks_of_shared_classes), ("own labels", tasks_with_names_of_their_own)):
            table[f"classifier / {kind} / {how}"] = lambda m=make, c=compiled: classifier(m, c)
            table[f"classifier / {kind} / ridge / {how}"] = lambda m=make, c=compiled: classifier(
                m, c, inner_solver="ridge"
            )
        table[f"policy / mean-variance / {how}"] = lambda c=compiled: policy(c)
        table[f"policy / sharpe, cost / {how}"] = lambda c=compiled: policy(
            c, utility="sharpe", cost=0.05, adapt_layers="head", learn_inner_lr=False
        )
    table["policy / trading"] = trading
    for data in EQUATIONS:
        for objective in OBJECTIVES:
            table[f"equation / {data} / {objective}"] = lambda d=data, o=objective: equation(d, o)
    table |= {
        "equation / theophylline / compiled": lambda: equation("theophylline", "evidence", compile=True),
        "equation / theophylline / diagonal": lambda: equation("theophylline", "evidence", covariance="diagonal"),
        "equation / theophylline / combined, limit": lambda: equation(
            "theophylline", "evidence", noise="combined", limit=1.0
        ),
        "equation / theophylline / covariate": lambda: equation(
            "theophylline", "evidence", covariates={"Cl": ["weight"]}, random=["Ka", "Cl"]
        ),
        "equation / guard, adapt_many, calibrate, predict_interval": equation_guard_intervals_many,
    }
    for name in KINETICS:
        table[f"kinetics / {name}"] = lambda name=name: kinetic(name)
    one, two = physiology.OneCompartmentRegressor, physiology.TwoCompartmentRegressor
    table |= {
        "physiology / one compartment": lambda: compartments(one, "oral", False),
        "physiology / two compartments": lambda: compartments(two, "iv", True, random=["clearance", "volume"]),
        "physiology / Michaelis-Menten": lambda: compartments(
            physiology.MichaelisMentenRegressor, "oral", False, 3, random=["volume", "capacity"], max_iter=1
        ),
        "physiology / minimal model": minimal_model,
        "physiology / glucose": glucose_forecaster,
    }
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", metavar="WORD", help="cases with WORD in their name")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the answers as JSON")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="answers of another version; exit 1 where they differ"
    )
    parser.add_argument(
        "--seconds", action="store_true", help="print the processor time of each case, on standard error"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    answers = {}
    for name, case in cases().items():
        if arguments.only in name:
            start = time.process_time()
            answers[name] = answer_of(case)
            if arguments.seconds:
                print(f"{time.process_time() - start:6.2f} s  {name}", file=sys.stderr, flush=True)
    if not answers:
        parser.error(f"no case has {arguments.only!r} in its name")
    if arguments.output:
        arguments.output.write_text(json.dumps(answers, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if not arguments.compare:
        for name, parts in sorted(answers.items()):
            for part, value in sorted(parts.items()):
                print(f"{name} | {part} | {value}")
        return 0
    before = json.loads(arguments.compare.read_text(encoding="utf-8"))
    before = {name: parts for name, parts in before.items() if arguments.only in name}
    differences = 0
    for name in sorted({*before, *answers}):
        one, other = before.get(name, {}), answers.get(name, {})
        for part in sorted({*one, *other}):
            if one.get(part) != other.get(part):
                differences += 1
                print(f"{name} | {part} | {one.get(part)} -> {other.get(part)}")
    print(f"{len(answers)} cases, {differences} differences")
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
