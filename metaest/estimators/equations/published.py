"""A population as the prior of an equation, without a fit; and the population that a fit has learned."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.noises import output_column
from metaest.estimators.equations.outcomes import refuse_outcome
from metaest.estimators.equations.time_varying import by_formulas
from metaest.estimators.fingerprint import digest
from metaest.exceptions import UnlikelyTaskWarning, warn
from metaest.functional import Equation, GaussNewton, HierarchicalModel, Noise, Observations, PopulationParameters
from metaest.functional.equations.censoring import Bounds
from metaest.functional.equations.outputs import OutputNoise
from metaest.functional.equations.probing import choose_mode
from metaest.population import Block, NoiseModel, OutputNoiseModel, Parameter, Population, Provenance, Shift
from metaest.population.effects import Effect
from metaest.population.parameter import check_parameters, transforms_of

__all__ = ["equation_hash", "fitted_of", "population_of", "warn_outside"]

# tasks and rows on which an equation that was never fitted is tried
PROBE_TASKS = 3
PROBE_ROWS = 4
# how far the constants of those tasks lie from typical ones, in standard deviations between tasks
PROBE_REACH = 0.5


def fitted_of(
    population: Population,
    equation: Callable[..., Tensor],
    columns: Sequence[str],
    bounds: Bounds,
    expected: Mapping[str, Parameter] | None = None,
    time_varying: Any = None,
) -> tuple[FittedEquation, str, str]:
    """Return a population with its equation, as a fit would, and how many tasks the equation is evaluated at once.

    Parameters
    ----------
    population : Population
    equation : callable
    columns : sequence of str
        Names of the columns of X.
    bounds : Bounds
        Limits of quantification.
    expected : dict of str to Parameter, optional
        Constants as the equation has them; their names, and their units where both state them, must be the
        population's.
    time_varying : sequence of str or int, optional
        Columns that vary within a task: formulas that read one are evaluated row by row.

    Returns
    -------
    fitted : FittedEquation
    mode, reason : str
        How the equation is evaluated, and why.

    Raises
    ------
    ValueError
        When the population belongs to another equation; the message names the constant or the column.
    """
    table = check_parameters(dict(population.constants), equation)
    _require_same(population, equation, table, expected)
    names, transforms = list(table), transforms_of(table)
    beta = transforms.unconstrain(_tensor([p.initial for p in table.values()]))
    # an equation may itself apply formulas, of covariates that change within a task
    within = getattr(equation, "effects_of_rows", {})
    effects = {
        name: tuple(effect for effect in several if effect not in within.get(name, ()))
        for name, several in population.covariates.items()
    }
    effects = {name: several for name, several in effects.items() if several}
    function, covariates = by_formulas(time_varying, effects, equation, table, list(columns))
    random = tuple(names.index(name) for name in population.random)
    of_noise = {name: getattr(bounds, name) for name in Bounds._fields}
    noise = _noise_of(population.noise, columns, of_noise)
    model = HierarchicalModel(Equation(function, names), transforms, noise)
    covariance = population.covariance()
    factor = torch.zeros(len(names), len(random), dtype=torch.float64)
    if random:
        chosen = covariance[np.ix_(random, random)]
        factor[list(random)] = torch.from_numpy(np.linalg.cholesky(chosen))
    mode, reason = _mode(model, beta, factor, len(columns))
    model = replace(model, equation=replace(model.equation, mode=mode))
    ones = torch.ones(len(covariates.formulas), dtype=torch.float64)
    n = len(beta) + len(ones)
    uncertainty = torch.zeros(n, n, dtype=torch.float64)
    uncertainty[: len(beta), : len(beta)] = _uncertainty(population, transforms.slope(beta))
    parameters = PopulationParameters(torch.cat([beta, ones]), factor, _log_sigma(noise, population.noise))
    # the last is a size of targets, at which gradient steps alone look
    fitted = FittedEquation(table, model, parameters, covariates, uncertainty, (), random, (), GaussNewton(), 1.0)
    return fitted, mode, reason


def population_of(
    fitted: FittedEquation,
    columns: Mapping[str, str],
    *,
    target: str,
    equation: str,
    settings: Mapping[str, Any],
    equation_hash: str,
    provenance: Provenance,
) -> Population:
    """Return the population of a fitted equation.

    Raises
    ------
    ValueError
        When it has a part that a Population does not hold.
    """
    model = fitted.model
    refuse_outcome(model.noise, "to_population", "a Population holds normal noise; save the model instead")
    if model.noise.correlation is not None:
        raise ValueError("to_population: a correlation of residuals (noise_correlation) is no part of a Population.")
    if fitted.row_accuracy.column is not None:
        raise ValueError("to_population: a column of measurement_sd is no part of a Population.")
    if fitted.by_gradient_steps:
        raise ValueError("to_population: constants that adapt by gradient steps have no population to adapt from.")
    if fitted.undetermined:
        name = fitted.names[min(fitted.undetermined[0], len(fitted.names) - 1)]
        raise ValueError(f"to_population: {name!r} is not determined by the tasks of the fit.")
    p = len(fitted.given_names)
    typical = model.transforms.constrain(fitted.population.beta[: len(fitted.table)]).tolist()
    constants = {
        name: replace(parameter, initial=value)
        for (name, parameter), value in zip(fitted.given_table.items(), typical, strict=False)
    }
    uncertainty = fitted.beta_covariance[:p, :p].numpy()
    return Population(
        constants,
        _blocks(fitted),
        _noise_model(fitted, columns),
        covariates=_effects(fitted, list(columns)),
        columns=columns,
        target=target,
        uncertainty=uncertainty if uncertainty.any() else None,
        equation=equation,
        settings=settings,
        equation_hash=equation_hash,
        provenance=provenance,
    )


def warn_outside(provenance: Provenance, values: Mapping[str, NDArray[Any]], where: str) -> None:
    """Warn where columns have values outside the ranges of the tasks that a population was learned from."""
    for name, column in values.items():
        for value in dict.fromkeys((float(column.min()), float(column.max()))) if len(column) else ():
            if wrong := provenance.outside({name: value}):
                low, high = wrong[name]
                warn(
                    f"{where}: {name!r} is {value:g}, and the population was learned from {low:g} to {high:g}; its "
                    "constants are extrapolated.",
                    UnlikelyTaskWarning,
                )


def equation_hash(equation: Any) -> str:
    """Return a hash of what an equation computes, as 16 hexadecimal digits."""
    return digest(equation)[:16]


def _noise_of(model: NoiseModel | OutputNoiseModel, columns: Sequence[str], bounds: Mapping[str, Any]) -> Noise:
    """Return the noise of a population."""
    if isinstance(model, NoiseModel):
        return Noise(model.kind, model.floor, **bounds)  # type: ignore[arg-type]
    of_each = list(model.models.values())
    n = len(of_each)
    return OutputNoise(
        "lognormal" if of_each[0].kind == "lognormal" else "additive",
        **bounds,
        parts=tuple(Noise(each.kind, each.floor) for each in of_each),  # type: ignore[arg-type]
        codes=tuple(model.codes[output] for output in model.models),
        labels=tuple(model.models),
        by=output_column(model.column, columns, len(columns)),
        spreads=(1.0,) * n,  # of observations, which there are none of
    )


def _noise_model(fitted: FittedEquation, columns: Mapping[str, str]) -> NoiseModel | OutputNoiseModel:
    """Return the noise of a fit."""
    noise, log_sigma = fitted.model.noise, fitted.population.log_sigma
    models = {
        output: NoiseModel(part.kind, **_noise_numbers(part, own), floor=_floor(part))
        for output, part, own in noise.each(log_sigma)
    }
    if not isinstance(noise, OutputNoise):
        return models[None]
    codes = dict(zip(noise.labels, noise.codes, strict=True))
    return OutputNoiseModel(list(columns)[noise.by.number], models, codes)


def _noise_numbers(noise: Noise, log_sigma: Tensor) -> dict[str, float]:
    """Return the numbers of the noise by the names that a NoiseModel gives them."""
    if noise.kind == "power":
        power = float(log_sigma[1])
        return {"sd_at_1": math.exp(float(log_sigma[0]) - power * math.log(noise.reference)), "power": power}
    return dict(zip(NoiseModel.NUMBERS[noise.kind], log_sigma[: noise.n_scales].exp().tolist(), strict=True))


def _blocks(fitted: FittedEquation) -> list[Block]:
    """Return the covariance between tasks in blocks; constants without variation stand in none."""
    varying = fitted.varying
    factor = fitted.population.factor[varying]
    matrix = (factor @ factor.T).numpy()
    left, blocks = list(range(len(varying))), []
    while left:
        together = [left[0]]
        for i in together:  # grows on the way
            together += [j for j in left if j not in together and matrix[i, j]]
        together.sort()
        left = [j for j in left if j not in together]
        names = {j: fitted.names[varying[j]] for j in together}
        pairs = {(names[i], names[j]): float(matrix[i, j]) for i in together for j in together if i < j}
        try:
            blocks.append(Block(variance={names[j]: float(matrix[j, j]) for j in together}, covariance=pairs))
        except ValueError as error:
            raise ValueError(
                f"to_population: the fit lets the constants {', '.join(names.values())} vary as one (their covariance "
                "between tasks has no inverse); let fewer vary (random=), or take covariance='diagonal'."
            ) from error
    return blocks


def _effects(fitted: FittedEquation, columns: list[str]) -> dict[str, list[Effect]]:
    """Return learned coefficients as shifts on the scale of the constant, and the formulas of a population."""
    effects = dict[str, list[Effect]]()
    parts = [(fitted.covariates, len(fitted.table))]
    if fitted.by_row is not None:
        parts.append((fitted.by_row.covariates, len(fitted.given_names)))
    for covariates, first in parts:
        for j, k in enumerate(covariates.constants):
            slope = float(fitted.population.beta[first + j]) / float(covariates.scale[j])
            shift = Shift(columns[covariates.columns[j]], slope, float(covariates.mean[j]))
            effects.setdefault(fitted.names[k], []).append(shift)
        for formulas in covariates.formulas:
            effects.setdefault(fitted.names[formulas.constant], []).extend(formulas.effects)
    return effects


def _require_same(
    population: Population,
    equation: Callable[..., Tensor],
    table: Mapping[str, Parameter],
    expected: Mapping[str, Parameter] | None,
) -> None:
    """Raise a ValueError where the population was learned for another equation."""
    for name, parameter in (expected or {}).items():
        if name not in table:
            raise ValueError(f"the population lacks the constant {name!r}; it has {', '.join(table)}.")
        units = parameter.unit, table[name].unit
        if all(units) and units[0] != units[1]:
            raise ValueError(
                f"the constant {name!r} is in {units[0]} here, and in {units[1]} in the population; convert one."
            )
    for name in table:
        if expected is not None and name not in expected:
            raise ValueError(
                f"the population has the constant {name!r}, which this equation does not; it has {', '.join(expected)}."
            )
    if population.equation_hash and population.equation_hash != equation_hash(equation):
        name = getattr(equation, "__name__", type(equation).__name__)
        raise ValueError(
            f"the population was learned for another equation: {name} has the hash {equation_hash(equation)}, and the "
            f"population {population.equation_hash}. Where the two compute the same, clear the population's "
            "equation_hash."
        )


def _mode(model: HierarchicalModel, beta: Tensor, factor: Tensor, n_columns: int) -> tuple[Any, str]:
    """Try the equation on rows that are made up, and choose how it is evaluated for many tasks."""
    if getattr(model.equation.function, "rows_alone", False):
        return "rows", "rows: the equation says that what it gives for a row depends on this row alone"
    rng = np.random.default_rng(0)
    X = torch.from_numpy(np.exp(rng.uniform(-1, 1, (PROBE_TASKS, PROBE_ROWS, n_columns))))
    observations = Observations.stack(X, torch.zeros(X.shape[:2]).double(), torch.ones(X.shape[:2]).double())
    deviations = torch.from_numpy(rng.uniform(-PROBE_REACH, PROBE_REACH, (factor.shape[1], PROBE_TASKS)))
    theta = model.transforms.constrain(beta[:, None] + factor @ deviations)
    others = torch.from_numpy(np.exp(rng.uniform(-3, 3, (2 * PROBE_ROWS, n_columns))))
    try:
        return choose_mode(model.equation, theta, observations, others)
    except Exception as error:  # whatever an equation makes of rows that nobody measured
        return "loop", f"loop: made-up rows end in {type(error).__name__}"


def _uncertainty(population: Population, slope: Tensor) -> Tensor:
    """Return the covariance of typical values on the scales on which constants are normal."""
    if population.uncertainty is not None:
        return torch.from_numpy(np.array(population.uncertainty))
    errors = _tensor([population.standard_errors.get(name, 0.0) for name in population.constants])
    return torch.diag((errors / slope).square())


def _log_sigma(noise: Noise, numbers: NoiseModel | OutputNoiseModel) -> Tensor:
    """Return the constants of the noise as the model has them."""
    if isinstance(noise, OutputNoise):
        assert isinstance(numbers, OutputNoiseModel)
        return torch.cat([_log_sigma(p, m) for p, m in zip(noise.parts, numbers.models.values(), strict=True)])
    assert isinstance(numbers, NoiseModel)
    values = numbers.numbers()
    if numbers.kind == "power":
        at_reference = math.log(values["sd_at_1"]) + values["power"] * math.log(noise.reference)
        return _tensor([at_reference, values["power"]])
    return _tensor([math.log(value) for value in values.values()])


def _floor(noise: Noise) -> float:
    return noise.delta if noise.kind in ("proportional", "power") else 0.0


def _tensor(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
