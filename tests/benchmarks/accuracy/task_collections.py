"""Collections of tasks that methods are compared on: simulated families, and measured data where they are there."""

import numpy as np

from metaest import TaskSet
from metaest_datasets import (
    fetch_hall2018,
    fetch_polymer_crystallisation,
    fetch_steel_tempering,
    load_orange,
    load_sleepstudy,
    load_theophylline,
    make_avrami_tasks,
    make_linear_tasks,
    make_sinusoids,
)
from metaest_domains.physiology import glucose_windows


def levels(rng, n=60, rows=30):
    """A level a task, and a surface that all share."""
    X = rng.standard_normal((n, rows, 5))
    y = 2 * rng.standard_normal((n, 1)) + np.sin(2 * X[..., 0]) + X[..., 1] * X[..., 2]
    return TaskSet(list(zip(X, y + 0.3 * rng.standard_normal(y.shape), strict=True)))


def trends(rng, n=60, rows=30):
    """A level and a trend a task, and a step that all share."""
    t = np.sort(rng.uniform(0, 1, (n, rows)), axis=1)
    z = rng.standard_normal((n, rows))
    y = rng.standard_normal((n, 1)) + 2 * rng.standard_normal((n, 1)) * t + (z > 0.5)
    return TaskSet(
        [(np.column_stack(own), target) for own, target in zip(np.stack([t, z], 2).swapaxes(1, 2), y, strict=True)]
    )


def seasons(rng, n=80, rows=40):
    """Weekly values: a level, a yearly wave whose size differs, holidays."""
    week = np.tile(np.arange(rows), (n, 1)) + rng.integers(0, 52, (n, 1))
    holiday = (rng.random((n, rows)) < 0.1).astype(float)
    size = 1 + 0.3 * rng.standard_normal((n, 1))
    y = rng.standard_normal((n, 1)) + 0.4 * size * np.sin(2 * np.pi * week / 52) + 0.5 * size * holiday
    y += 0.15 * rng.standard_normal(y.shape)
    X = np.stack([np.sin(2 * np.pi * week / 52), np.cos(2 * np.pi * week / 52), holiday], axis=2)
    return TaskSet(list(zip(X, y, strict=True)))


def tables(rng, n=400, rows=30, columns=12):
    """Linear coefficients of low rank a task, and a shared surface of few columns."""
    W = 0.6 * rng.standard_normal((2, columns))
    X = rng.standard_normal((n, rows, columns))
    z = rng.standard_normal((n, 2))
    y = np.einsum("nrc,nc->nr", X, z @ W) + np.cos(2 * X[..., 0]) + X[..., 1] * X[..., 3]
    return TaskSet(list(zip(X, y + 0.3 * rng.standard_normal(y.shape), strict=True)))


def alike(rng, n=40, rows=20):
    """Tasks that do not differ."""
    X = rng.standard_normal((n, rows, 3))
    y = np.tanh(X[..., 0]) + X[..., 1] ** 2
    return TaskSet(list(zip(X, y + 0.5 * rng.standard_normal(y.shape), strict=True)))


def waves(rng):
    """Sinusoids of other phase and size."""
    return make_sinusoids(200, n_rows=20, random_state=int(rng.integers(2**31)))


def lines(rng):
    """Straight lines around a common one."""
    return make_linear_tasks(40, random_state=int(rng.integers(2**31)))[0]


def transformations(rng):
    """Curves of the Avrami equation."""
    return make_avrami_tasks(24, random_state=int(rng.integers(2**31))).tasks


def glucose():
    """Readings of an hour, and the one half an hour later, of people with a sensor."""
    people = {}
    for person in fetch_hall2018():
        windows = glucose_windows(person.X[:, 0], person.y, n_readings=12, horizons=(30,))
        at = np.linspace(0, len(windows.history) - 1, 40).astype(int)
        people[person.name] = (windows.history[at], windows.ahead[at, 0])
    return TaskSet(people)


def thinned(tasks, rows=40):
    """At most so many rows a task, evenly spaced."""
    sets = {}
    for task in tasks:
        at = np.unique(np.linspace(0, len(task) - 1, min(rows, len(task))).astype(int))
        sets[task.name] = (task.X[at], task.y[at])
    return TaskSet(sets)


COLLECTIONS = {
    "levels": levels,
    "trends": trends,
    "seasons": seasons,
    "tables": tables,
    "alike": alike,
    "waves": waves,
    "lines": lines,
    "Avrami": transformations,
    "theophylline": lambda rng: load_theophylline(exclude_time_zero=True),
    "orange trees": lambda rng: load_orange(),
    "sleep": lambda rng: load_sleepstudy(),
    "steel tempering": lambda rng: thinned(fetch_steel_tempering()),
    "glucose": lambda rng: glucose(),
    "polymer": lambda rng: thinned(fetch_polymer_crystallisation()),
}
