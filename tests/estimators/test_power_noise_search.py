"""Searches for the constants of a task where the noise depends on the curve: no other constants are more probable."""

import pytest
import torch

from equations import design, model_of, observations, population
from metaest.estimators.equations.fitted import UNLIKELY
from metaest.estimators.equations.map_estimate import map_estimate, misfit
from metaest.functional import GaussNewton, SolveCode
from metaest.functional.equations.hierarchical import Point

# deviations in steps of a fifth of a standard deviation between tasks
AXIS = torch.linspace(-6, 6, 61, dtype=torch.float64)
GRID = torch.cartesian_prod(AXIS, AXIS).T


CASES = [("line", power, seed) for power in ("proportional", -1.5, 0.0, 0.6, 1.0, 1.5) for seed in (0, 1)]


@pytest.mark.parametrize(("name", "power", "seed"), [*CASES, ("cumulated", 0.6, 0)])
def test_nothing_is_more_probable_than_what_is_found_or_the_status_says_so(name, power, seed):
    # rows that are drawn whatever the curve, at a noise far below them: there are many local optima
    kind = power if power == "proportional" else "power"
    model, rows, people = model_of(name, kind), observations(seed=seed), population(kind)
    log_sigma = people.log_sigma if kind != "power" else torch.tensor([-1.0, power], dtype=torch.float64)
    center = design(5, len(people.beta)).center(people.beta, len(people.factor))
    point = Point(center, people.factor, log_sigma)
    result = map_estimate(GaussNewton(), model, point, rows)
    loss = model.losses_at(center, people.factor, log_sigma, rows, GRID) + 0.5 * GRID.square().sum(dim=0)
    lowest = result.loss <= loss.min(dim=1).values + 1e-6
    far = misfit(model, point.constants(result.u), result.loss, log_sigma, rows) > UNLIKELY
    assert (lowest | far | (result.code != SolveCode.CONVERGED)).all()
    if power in ("proportional", -1.5, 0.0, 0.6):
        assert lowest.all()
