"""Tasks with fewer rows than constants that differ by orders of magnitude, where no one curve is near all of them."""

import numpy as np
import pytest
import torch

from metaest import EquationRegressor, Parameter, Population, TaskSet
from metaest.population import Block, NoiseModel

TYPICAL = {"volume": 27.0, "elimination": 0.23, "excess": 0.3}
SD = np.array([0.45, 0.8, 0.2])
TASKS = 60


def log_level(X, volume, elimination, excess):
    """Return the logarithm of the level of a drug after an oral dose."""
    t = X[:, 0]
    return torch.log(1e4 * (elimination + excess) / (volume * excess) * -torch.expm1(-excess * t)) - elimination * t


def level(X, volume, elimination, excess):
    return torch.exp(log_level(X, volume, elimination, excess))


def sparse(equation, noise, seed):
    """Return tasks of two or three rows, and the population that they were simulated from."""
    constants = {name: Parameter(value, lower=0) for name, value in TYPICAL.items()}
    blocks = [
        Block(sd={"volume": SD[0], "elimination": SD[1]}, correlation={("volume", "elimination"): 0.9}),
        Block(sd={"excess": SD[2]}),
    ]
    truth = EquationRegressor.from_population(equation, Population(constants, blocks, noise, columns={"time": "h"}))
    rng = np.random.default_rng(seed)
    designs = [np.sort(rng.uniform(0.5, 24, (int(n), 1)), axis=0) for n in rng.integers(2, 4, TASKS)]
    simulated = [truth.simulate_tasks(X, 1, random_state=seed + i)[0] for i, X in enumerate(designs)]
    return TaskSet([(task.X, task.y) for task in simulated]), truth


@pytest.mark.parametrize("seed", [0, 100, 200])
@pytest.mark.parametrize(
    ("equation", "noise"),
    [(log_level, NoiseModel("additive", sd=0.25)), (level, NoiseModel("combined1", sd=2.0, cv=0.15))],
)
def test_a_fit_is_no_less_likely_than_the_truth(equation, noise, seed):
    tasks, truth = sparse(equation, noise, seed)
    initial = {name: Parameter(value, lower=0) for name, value in zip(TYPICAL, (10.0, 1.0, 1.0), strict=True)}
    model = EquationRegressor(equation, initial, noise=noise.kind).fit(tasks)
    assert model.log_likelihood_ > truth.log_likelihood(tasks).value


def test_a_covariate_that_says_nothing_takes_no_likelihood():
    tasks, _ = sparse(log_level, NoiseModel("additive", sd=0.25), 0)
    initial = {name: Parameter(value, lower=0) for name, value in TYPICAL.items()}
    plain = EquationRegressor(log_level, initial).fit(tasks)
    weights = np.random.default_rng(0).uniform(50, 90, len(tasks))
    weighed = TaskSet(
        [(np.column_stack([task.X, np.full(len(task.y), w)]), task.y) for task, w in zip(tasks, weights, strict=True)]
    )
    model = EquationRegressor(log_level, initial, covariates={"volume": [1]}).fit(weighed)
    assert plain.log_likelihood_ - 0.01 < model.log_likelihood_ < plain.log_likelihood_ + 4
