r"""How far the typical constants of some tasks lie from those of a population.

The typical value of a constant is that of a fit to the tasks beside a prior that is nearly flat in it, so that it is
not drawn to the population as the constants of single tasks are. The typical values of the others count as one task in
that prior: they may lie from the population's about as far as the constants of a task do. Were they as free, one that
no row tells would hide what rows do tell of the others. Covariance and noise count as ten tasks. The search is one,
with all counting as one task; around its end the loss is taken as quadratic.

With n tasks the error of a shift over its standard error follows Student's distribution of 10 + n - 1 degrees of
freedom: those of ten tasks of the population and of the local ones (the moderated statistic of Smyth, 2004,
:doi:`10.2202/1544-6115.1027`). Where local tasks vary far more among each other than the population says, which counts
as ten tasks, intervals are too narrow until there are many local ones.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from metaest.estimators.equations.fitted import FittedEquation
from metaest.estimators.equations.settings import FitSettings
from metaest.estimators.equations.updating import USUAL_WEIGHT, alone, free_coefficients, precision_of
from metaest.tasks import TaskSet

__all__ = ["Bias", "bias_of"]

# tasks that the population's typical value of the constant in question counts as: it keeps what no row tells from
# running away, and draws one that rows do tell to itself by one part in a hundred where there are ten tasks
LITTLE = 0.1
# and of the others
USUAL = 1.0


class Bias(NamedTuple):
    """Shifts of typical constants.

    Attributes
    ----------
    table : DataFrame
        As `Recalibration.bias` has it, with the ends ``scaled_lower`` and ``scaled_upper`` of the shift.
    p_value : float
        Of all told constants together.
    """

    table: pd.DataFrame
    p_value: float


def bias_of(settings: FitSettings, fitted: FittedEquation, tasks: TaskSet, level: float) -> Bias:
    """Return how far the typical constants of tasks lie from those of a population.

    Parameters
    ----------
    settings : FitSettings
    fitted : FittedEquation
        The population.
    tasks : TaskSet
    level : float
        Probability inside the intervals.
    """
    p, varying = len(fitted.table), fitted.varying
    origin, freedom = fitted.population.beta[:p], USUAL_WEIGHT + len(tasks) - 1
    shifts = _Shifts.of(settings, fitted, tasks)
    shift, error = torch.zeros(p, dtype=torch.float64), np.zeros(p)
    told = []
    for k in varying:
        away, covariance = shifts.free_in([k])
        shift[k], variance = away[k], float(covariance[k, k])
        if variance < float(fitted.prior_variance[k]):
            told.append(k)
        # what the population does not know of its typical values is no difference to them
        error[k] = np.sqrt(variance + float(fitted.beta_covariance[k, k]))
    half = torch.from_numpy(stats.t.ppf(0.5 + level / 2, freedom) * error)
    ends = shift - half, shift + half
    transforms = fitted.model.transforms
    before, at, lower, upper = (transforms.constrain(origin + away).numpy() for away in (0.0 * shift, shift, *ends))
    kinds, bounds = transforms.kinds, [parameter.bounds for parameter in fitted.table.values()]
    relative = np.array([kind == "log" and low == 0 for kind, (low, _) in zip(kinds, bounds, strict=True)])
    table = pd.DataFrame(
        {
            "population": before,
            "local": at,
            "lower": lower,
            "upper": upper,
            "change": np.where(relative, at / before - 1, np.nan),
            "change_lower": np.where(relative, lower / before - 1, np.nan),
            "change_upper": np.where(relative, upper / before - 1, np.nan),
            "shift": shift.numpy(),
            "standard_error": error,
            "scaled_lower": ends[0].numpy(),
            "scaled_upper": ends[1].numpy(),
            "told": [k in told for k in range(p)],
        },
        index=pd.Index(fitted.names, name="constant"),
    )
    p_value = np.nan
    if told:
        away, covariance = shifts.free_in(told)
        joint = (covariance + fitted.beta_covariance[:p, :p])[told][:, told]
        statistic = float(away[told] @ torch.linalg.solve(joint, away[told])) / len(told)
        p_value = float(stats.f.sf(statistic, len(told), freedom))
    return Bias(table.iloc[varying], p_value)


class _Shifts(NamedTuple):
    """What tasks say of the shifts of typical values, as a quadratic loss.

    Attributes
    ----------
    fitted : FittedEquation
        The population.
    free : list of int
        Constants that may shift.
    pull : Tensor of shape (free,)
        Information times the shift that the tasks alone would have.
    information : Tensor of shape (free, free)
    """

    fitted: FittedEquation
    free: list[int]
    pull: Tensor
    information: Tensor

    @classmethod
    def of(cls, settings: FitSettings, fitted: FittedEquation, tasks: TaskSet) -> "_Shifts":
        """Expand the loss of the tasks around a fit in which all typical values count as one task."""
        free = list(free_coefficients(fitted))
        local = alone(settings, fitted, tasks, USUAL)
        away = (local.population.beta - fitted.population.beta)[free]
        precision = torch.linalg.inv(local.beta_covariance[free][:, free])
        prior = precision_of(fitted, np.full(len(fitted.table), USUAL))
        return cls(fitted, free, precision @ away, precision - prior)

    def free_in(self, constants: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return shifts and their covariance, of all constants, where these are nearly free."""
        p = len(self.fitted.table)
        weights = np.full(p, USUAL)
        weights[list(constants)] = LITTLE
        covariance = torch.linalg.inv(self.information + precision_of(self.fitted, weights))
        shift, whole = torch.zeros(p, dtype=torch.float64), torch.zeros(p, p, dtype=torch.float64)
        shift[self.free], whole[np.ix_(self.free, self.free)] = covariance @ self.pull, covariance
        return shift, whole
