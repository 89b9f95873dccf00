"""Meta-training of the constants' start and of the rates of their gradient steps: MAML on an equation."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from metaest.estimators.equations.batches import rows_of
from metaest.estimators.equations.fit.linearised import invert, linearise
from metaest.estimators.equations.fit.problem import Problem
from metaest.estimators.equations.fit.starts import sizes, spread_of
from metaest.estimators.equations.settings import FitSettings
from metaest.exceptions import DivergenceError
from metaest.functional import GradientDescent, Observations, OuterLoop, Params, PopulationParameters, StepInfo
from metaest.functional.equations.gradient_descent import constant_losses
from metaest.functional.equations.hierarchical import Design
from metaest.tasks import TaskSet, split_tasks

__all__ = ["meta_train"]

# first rate of a constant, as a share of the inverse curvature of the mean squared support loss
FIRST_RATE = 0.5
# least curvature of that loss, in units of the spread of the targets and of the size of a constant: it bounds the rates
LEAST_CURVATURE = 1e-12
# attempts of the meta-training, each from lower rates after one that diverged
ATTEMPTS = 6
# by how much the logarithms of the rates are lowered then
LOWERED = 1.0
# norm of the meta-gradient to which larger ones are clipped
MAX_GRAD_NORM = 1.0


def meta_train(
    settings: FitSettings,
    problem: Problem,
    population: PopulationParameters,
    u: Tensor,
    tasks: TaskSet,
    rng: np.random.Generator,
    report: Callable[[int, float], None],
) -> tuple[PopulationParameters, GradientDescent]:
    """Learn where the constants start and how fast each moves, by the query loss of drawn episodes.

    Coefficients move in units of the standard deviation between tasks; rates start at a fraction of what the curvature
    of the support loss bears, and are learned as logarithms.

    Returns
    -------
    PopulationParameters
        With the learned coefficients; covariance and noise are left as they came.
    GradientDescent
    """
    model, design = problem.model, problem.design
    unit = spread_of(problem.observations)
    names = list(model.equation.names)
    step = _step_sizes(problem, population, u)
    log_rate = _first_rates(problem, population, unit)

    def solver_of(log_rate: Tensor) -> GradientDescent:
        rates = {name: log_rate.new_zeros(()) for name in names}
        rates.update({names[k]: log_rate[j].exp() for j, k in enumerate(problem.random)})
        return GradientDescent(int(settings.inner_steps), rates)

    size = min(len(tasks), int(settings.meta_batch_size))

    def draw() -> tuple[Design, Observations, Observations]:
        chosen = np.sort(rng.permutation(len(tasks))[:size])
        split = split_tasks(tasks, chosen, settings.support_size, settings.split, rng)
        support, query = (split.support, split.support_mask), (split.query, split.query_mask)
        return design.take(torch.from_numpy(chosen)), rows_of(tasks, *support), rows_of(tasks, *query)

    def losses(params: Params, episodes: tuple[Design, Observations, Observations]) -> Tensor:
        drawn, support, query = episodes
        center = drawn.center(population.beta + step * params["beta"], len(names))
        return constant_losses(
            model, solver_of(params["log_rate"]), unit, center, support, query, settings.meta_gradient
        )

    def follow(info: StepInfo) -> None:
        report(info.step, info.meta_loss)

    loop = OuterLoop(
        max_iter=settings.max_iter, meta_lr=settings.meta_lr, max_grad_norm=MAX_GRAD_NORM, callbacks=[follow]
    )
    checkpoint = problem.checkpoint.loop(rng, report)
    first = 0 if checkpoint is None else checkpoint.attempt
    for _ in range(first):
        log_rate = log_rate - LOWERED
    for attempt in range(first, ATTEMPTS):
        state = rng.bit_generator.state
        if checkpoint is not None:
            checkpoint.attempt = attempt
        try:
            params = {"beta": torch.zeros_like(population.beta), "log_rate": log_rate}
            result = loop.run(params, draw, losses, checkpoint=checkpoint)
            break
        except DivergenceError as error:  # an episode that bears less than the average: begin anew with lower rates
            if attempt + 1 == ATTEMPTS:
                raise DivergenceError(
                    "gradient steps diverge on these tasks even at small rates; take fewer inner_steps, lower "
                    "meta_lr, or use inner_solver='gauss-newton'. Nothing fitted before was changed."
                ) from error
            log_rate = log_rate - LOWERED
            rng.bit_generator.state = state
    beta = (population.beta + step * result.params["beta"]).detach()
    return population._replace(beta=beta), solver_of(result.params["log_rate"].detach())


def _step_sizes(problem: Problem, population: PopulationParameters, u: Tensor) -> Tensor:
    """Return one standard deviation between tasks of the constant of each coefficient, or its standard error."""
    normal = linearise(problem.model, problem.at(population), problem.design, problem.observations, u).normal
    error = invert(normal)[0].diagonal().clamp(min=0).sqrt()
    sd = population.factor.square().sum(dim=1).sqrt()[problem.design.constant]
    return torch.maximum(sd, error)


def _first_rates(problem: Problem, population: PopulationParameters, unit: float) -> Tensor:
    """Return a fraction of the inverse curvature of the mean squared support loss, for every constant that varies."""
    model, rows = problem.model, problem.observations
    _, slopes = model.curve_and_slopes(problem.at(population).center, rows)
    weight = torch.full_like(rows.y, unit)
    if model.noise.kind != "additive":
        weight = (rows.y.square() + model.noise.delta**2).sqrt()
    square = rows.weighed((slopes / weight).square()).sum(dim=(1, 2)) / rows.weighed(torch.ones_like(rows.y)).sum()
    curvature = 2 * square[problem.random].detach() * max(1, len(problem.random))
    # a rate has the unit of the square of its constant
    size = sizes(model, population.beta[: len(population.factor)], rows)[problem.random]
    return (FIRST_RATE / torch.maximum(curvature, LEAST_CURVATURE / size.square())).log()
