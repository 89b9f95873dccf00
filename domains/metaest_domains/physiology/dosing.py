"""The dose that reaches a target, and the probability with which doses attain it."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from metaest import Drawn
from metaest.exceptions import warn
from metaest.tasks.numbers import as_number, as_one_or_more
from metaest_domains.physiology.averaged_treatment import AveragedTreatment, planned_treatment
from metaest_domains.physiology.regimen import Regimen
from metaest_domains.physiology.targets import Target, read_target
from metaest_domains.physiology.treatment import Treatment

__all__ = ["Dose", "attainment", "dose_for"]

Range = tuple[float, float]
# doses among which the one that is most probably in range is looked for
N_GRID = 401
# share of the draws beyond each end of that grid
TAIL = 0.005
# width of the normal curve in place of each draw, in standard deviations of the logarithm times n ** (-1 / 5); the
# greatest probability of raw draws would lie wherever a few of them happen to crowd (Silverman 1986)
WIDTH = 0.9
# share of the weight in the interval that tells how wide a peak is, and how many standard deviations long it is
QUARTER = 0.25
QUARTER_WIDTH = float(2 * ndtri(0.5 + QUARTER / 2))
# least share of the whole spread that counts as a peak's: a few draws may have a quarter of the weight
LEAST_SHARE = 0.2
# share of the greatest probability by which a dose may be worse and still count as equal
EQUAL = 1e-6
# share of a step by which a dose may lie above a multiple of it and still count as that
ROUNDING = 1e-9


class Dose(NamedTuple):
    """A dose, the interval of the dose that the patient needs, and the probability with which it attains the target.

    Attributes
    ----------
    value : float
        The dose.
    lower, upper : float
        Ends of the interval.
    attainment : float
        Probability, between 0 and 1.
    """

    value: float
    lower: float
    upper: float
    attainment: float

    @property
    def dose(self) -> float:
        """The dose; another name of ``value``."""
        return self.value


def dose_for(
    patient: Any,
    regimen: Regimen,
    *,
    target_trough: float | Range | None = None,
    target_peak: float | Range | None = None,
    target_auc: float | Range | None = None,
    target_time_above: float | Range | None = None,
    concentration: float | None = None,
    start: float | None = None,
    time: float | None = None,
    given: Regimen | None = None,
    probability: float | None = None,
    step: float | None = None,
    level: float = 0.9,
) -> Dose:
    """Return the dose with which a regimen reaches a target, and the probability that it does.

    All doses of the regimen are multiplied by one factor; the result is the first dose above 0 after that. Doses that
    were given before stay as they are. Which dose is returned:

    - for a number, the dose that reaches it at the patient's most probable constants (by an average of models, the mean
      of these doses by their weights);
    - for a range ``(low, high)``, the dose with which it is most probable;
    - with `probability`, the least dose that attains the number, or more, or the range, at least so probably.

    Probabilities are shares of draws of the constants from their posterior: of Laplace's normal approximation and of
    wider distributions around it, weighted so that they follow the posterior itself (importance sampling; see
    :meth:`metaest.AdaptedEquation.derive_draws`). Before any sample they are draws of the population. The noise of an
    observation is not part of them, nor is what the model itself has wrong.

    Parameters
    ----------
    patient : AdaptedEquation or fitted model
        A fitted model stands for a patient without samples, whose covariates are those of the regimen: a first dose.
    regimen : Regimen
        Planned doses whose amounts are to be computed; only their proportions and times count.
    target_trough : float or (float, float), optional
        Concentration one interval after the last dose, just before the next one would be due, or just before `time`.
    target_peak : float or (float, float), optional
        Greatest concentration from the first dose of the regimen to one interval after the last one, or to `time`.
    target_auc : float or (float, float), optional
        Area under the concentrations from `start` to one interval after the last dose, or to `time`; models whose
        elimination does not saturate.
    target_time_above : float or (float, float), optional
        Share of the time from `start` to one interval after the last dose, or to `time`, for which the concentration is
        above `concentration`: above 0, at most 1, such as 0.6 for 60 %. Of n hours it is n divided by the length of
        that time. Models whose elimination does not saturate.
    concentration : float, optional
        What `target_time_above` is to exceed, such as a minimal inhibitory concentration; required with it, alone.
    start : float, optional
        Where the area or the time above begins, at least 0; required with these, and with these alone.
    time : float, optional
        Time of the target; None is one interval after the last dose of a regimen with at least two doses.
    given : Regimen, optional
        All doses given before, on the same clock as the regimen. None: the regimen is the patient's first. It is
        required for a patient with samples if the regimen begins after time 0.
    probability : float, optional
        Between 0 and 1, such as 0.89.
    step : float, optional
        Doses that can be given are multiples of it, such as 250 mg; the nearest one at least one step large for a
        number, the most probable one for a range, the least one for a probability.
    level : float, default=0.9
        Probability of the interval.

    Returns
    -------
    Dose
        ``value`` (also named ``dose``); ``lower`` and ``upper``, the interval of the dose that the patient needs for
        the number, for the middle of the range, or for its lower end where its upper end is infinite; and
        ``attainment``, the probability that the dose as returned attains at least the number, or the range.

    Raises
    ------
    ValueError
        When not exactly one target above 0 is given, the time is missing for a regimen of one dose, a covariate of the
        fit is missing or one is unknown, `given` is missing, no dose reaches the target, or none does so with the
        probability that is asked for.
    TypeError
        When elimination saturates, for an area or a time above.

    Warns
    -----
    UserWarning
        When the previous doses suffice without any further dose; the result is then 0.

    Examples
    --------
    >>> from metaest_domains.physiology import OneCompartmentRegressor, Regimen, dose_for, load_published
    >>> model = OneCompartmentRegressor.from_population(load_published("vancomycin", "buelga-2005"))
    >>> regimen = Regimen.repeated(1000.0, interval=12, n=4, crcl=90.0, weight=65.0)
    >>> dose = dose_for(model, regimen, target_auc=(400.0, 600.0), start=24.0, step=250.0)
    >>> dose.dose, round(dose.attainment, 2)
    (1500.0, 0.57)
    >>> round(dose_for(model, regimen, target_auc=400.0, start=24.0, probability=0.89).dose)
    1675
    """
    treatment = planned_treatment(patient, regimen, given)
    targets = {
        "target_trough": target_trough, "target_peak": target_peak, "target_auc": target_auc,
        "target_time_above": target_time_above,
    }  # fmt: skip
    target = read_target("dose_for", patient, regimen, targets, concentration=concentration, start=start, time=time)
    if not target.low > 0:
        raise ValueError(
            "dose_for: a range must begin above 0; without an end below, no dose is the least or the best."
        )
    if probability is None and target.ranged and target.high == np.inf:
        raise ValueError(
            "dose_for: the greater the dose, the more probable a range without an upper end; pass the number alone, or "
            "probability=."
        )
    least = None if probability is None else as_number(
        probability, "dose_for: probability", above=0, below=1, wanted="a number between 0 and 1"
    )  # fmt: skip
    size = None if step is None else as_number(step, "dose_for: step", above=0, wanted="a dose above 0")
    drawn = _doses_for_goals(treatment, target)
    if not np.isfinite(drawn.value[0]):
        raise ValueError(
            f"no dose of this regimen reaches {target.low:g}: {target.exposure.unreached} by {target.time:g}."
        )
    needs = _Needs.of(drawn)
    if least is not None:
        dose = needs.least_dose(least, size, target)
    elif target.ranged:
        dose = needs.most_probable_dose(size)
    else:
        dose = _rounded(float(drawn.value[0]), size)
    attained = float(needs.attained(np.array([dose]))[0])
    if dose == 0:
        _warn_of_none(target, attained, by_probability=least is not None or target.ranged)
    interval = Drawn(drawn.value[1], drawn.draws[1], drawn.weight).interval(level)
    return Dose(dose, interval.lower, interval.upper, attained)


def attainment(
    patient: Any,
    regimen: Regimen,
    doses: ArrayLike,
    *,
    target_trough: float | Range | None = None,
    target_peak: float | Range | None = None,
    target_auc: float | Range | None = None,
    target_time_above: float | Range | None = None,
    concentration: float | None = None,
    start: float | None = None,
    time: float | None = None,
    given: Regimen | None = None,
    level: float = 0.9,
) -> pd.DataFrame:
    """Return the probability with which doses attain a target, and what they lead to.

    Parameters
    ----------
    patient, regimen
        See `dose_for`.
    doses : float or array-like of shape (n_doses,)
        First doses of the regimen, above 0; its other doses keep their proportions to it.
    target_trough, target_peak, target_auc, target_time_above, concentration, start, time, given
        See `dose_for`. A range may begin at 0, such as ``(0, 15)`` for a trough of at most 15, or have no end,
        ``(400, np.inf)``, which is what the number 400 stands for.
    level : float, default=0.9
        Probability of the intervals.

    Returns
    -------
    DataFrame
        One row a dose, which is the index: ``attainment``, the probability, and ``value``, ``lower`` and ``upper`` of
        the concentration, the area, or the share of the time.

    Raises
    ------
    ValueError, TypeError
        As `dose_for`.

    Examples
    --------
    >>> from metaest_domains.physiology import OneCompartmentRegressor, Regimen, attainment, load_published
    >>> model = OneCompartmentRegressor.from_population(load_published("vancomycin", "buelga-2005"))
    >>> regimen = Regimen.repeated(1000.0, interval=12, n=4, crcl=90.0, weight=65.0)
    >>> table = attainment(model, regimen, [1000, 1500, 2000], target_auc=(400.0, 600.0), start=24.0)
    >>> table["attainment"].round(2).tolist()
    [0.21, 0.57, 0.33]
    """
    treatment = planned_treatment(patient, regimen, given)
    targets = {
        "target_trough": target_trough, "target_peak": target_peak, "target_auc": target_auc,
        "target_time_above": target_time_above,
    }  # fmt: skip
    target = read_target("attainment", patient, regimen, targets, concentration=concentration, start=start, time=time)
    amounts = as_one_or_more(doses, "attainment: doses")
    if not len(amounts) or not (amounts > 0).all():
        raise ValueError(f"attainment: doses must be one or more amounts above 0, got {doses!r}.")
    rows = []
    for amount in amounts:
        at = treatment.under(regimen.scaled(amount / _first(regimen)))
        drawn = at.drawn(partial(_exposure, target))
        share = drawn.probability(lambda values: (values >= target.low) & (values <= target.high))
        rows.append((share, *drawn.interval(level)))
    return pd.DataFrame(rows, pd.Index(amounts, name="dose"), ["attainment", "value", "lower", "upper"])


def _exposure(target: Target, treatment: Treatment, constants: dict[str, Any]) -> Any:
    """Return the exposure of a target under a treatment, for draws of the constants."""
    return target.exposure.value(treatment.courses(constants))


def _first(regimen: Regimen) -> float:
    """Return the first dose above 0."""
    return float(regimen.amount[regimen.amount > 0][0])


def _doses_for_goals(treatment: Treatment | AveragedTreatment, target: Target) -> Drawn:
    """Return draws of the doses that reach the low end of a target, its goal and its high end, of shape (3, draws)."""
    regimen = treatment.regimen
    assert regimen is not None

    def doses(one: Treatment, constants: dict[str, Any]) -> NDArray[np.float64]:
        courses = one.courses(constants)
        computed: dict[float, NDArray[np.float64]] = {}
        for goal in (target.low, target.goal, target.high):
            if goal not in computed:
                reached = goal < np.inf
                like = computed[target.low] if computed else 0.0
                computed[goal] = (
                    target.exposure.factor(courses, goal).numpy() if reached else np.full_like(like, np.inf)
                )
        return _first(regimen) * np.stack([computed[goal] for goal in (target.low, target.goal, target.high)])

    return treatment.drawn(doses)


@dataclass(frozen=True)
class _Needs:
    """The least and the greatest dose with which each draw is within the range.

    Attributes
    ----------
    low, high : ndarray of shape (n_draws,)
    weight : ndarray of shape (n_draws,)
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, drawn: Drawn) -> "_Needs":
        """Return those of draws of shape (3, n_draws); one that is not a number is never within the range."""
        low, _, high = drawn.draws
        unknown = np.isnan(low) | np.isnan(high)
        # past doses alone are beyond the range: no dose is small enough
        return cls(np.where(unknown, np.inf, low), np.where(unknown | (high == 0), -1.0, high), drawn.weight)

    def attained(self, doses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of the range at each dose."""

        def share(ends: NDArray[np.float64], side: Any) -> NDArray[np.float64]:
            order = np.argsort(ends, kind="stable")
            total = np.concatenate([[0.0], np.cumsum(self.weight[order])])
            return total[np.searchsorted(ends[order], doses, side)]

        return np.clip(share(self.low, "right") - share(np.maximum(self.low, self.high), "left"), 0.0, 1.0)

    def least_dose(self, probability: float, step: float | None, target: Target) -> float:
        """Return the least dose whose probability is at least a given one, or raise an error that says what is."""
        # only where a draw enters the range does the probability rise
        doses = np.unique(self.low[np.isfinite(self.low)])
        if step is not None:
            doses = np.unique(np.ceil(doses / step - ROUNDING) * step)
        attained = self.attained(doses)
        enough = np.flatnonzero(attained >= probability)
        if not len(enough):
            best = int(attained.argmax())
            raise ValueError(
                f"dose_for: no dose attains {target} with a probability of {probability:g}; the most probable one, "
                f"{doses[best]:.4g}, attains it with {attained[best]:.3f}."
            )
        return float(doses[enough[0]])

    def most_probable_dose(self, step: float | None) -> float:
        """Return the dose with the greatest probability of the range; 0 if none is more probable than no dose."""
        usable = [ends[np.isfinite(ends) & (ends > 0)] for ends in (self.low, self.high)]
        if not len(usable[0]):
            return 0.0
        ends = np.concatenate([np.quantile(each, [TAIL, 1 - TAIL]) for each in usable if len(each)])
        doses = np.geomspace(ends.min(), ends.max(), N_GRID)
        if step is not None:
            # by an average of models the probability may have several peaks: the multiples beside all of them
            whole = np.concatenate([np.floor(doses / step), np.ceil(doses / step)])
            doses = np.unique(np.maximum(whole, 1.0)) * step
        smooth = self._smooth(doses)
        best = np.flatnonzero(smooth >= (1 - EQUAL) * smooth.max())
        plateau = max(np.split(best, np.flatnonzero(np.diff(best) > 1) + 1), key=len)
        dose = float(doses[plateau[len(plateau) // 2]])
        if step is None:
            dose = float(0.5 * (doses[plateau[0]] + doses[plateau[-1]]))
        without, attained = self.attained(np.array([0.0, dose]))
        # a range too narrow for any draw has a best dose all the same
        return dose if attained > without or without == 0 else 0.0

    def _smooth(self, doses: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability at doses above 0, with a narrow normal curve in place of each draw's logarithm."""
        positive = np.isfinite(self.low) & (self.low > 0)
        spread = _spread_of_peak(np.log(self.low[positive]), self.weight[positive])
        width = max(WIDTH * spread * len(self.low) ** -0.2, 1e-9)
        shares = []
        for ends in (self.low, np.maximum(self.low, self.high)):
            with np.errstate(divide="ignore"):
                logs = np.log(np.maximum(ends, 0.0))
            shares.append(ndtr((np.log(doses)[:, None] - logs) / width) @ self.weight)
        return np.asarray(shares[0] - shares[1])


def _spread_of_peak(values: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """Return the standard deviation of values, or that of a normal peak of them where an average of models has several.

    That of all would smooth a narrow peak away beside another one far off. A peak's is read off the shortest interval
    that holds a quarter of the weight.
    """
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order]) / weight.sum()
    end = np.searchsorted(total, total + QUARTER)
    inside = end < len(values)
    shortest = (values[order][end[inside]] - values[order][inside]).min() if inside.any() else np.inf
    whole = float(values.std())
    return max(min(whole, float(shortest / QUARTER_WIDTH)), LEAST_SHARE * whole)


def _rounded(dose: float, step: float | None) -> float:
    """Return the nearest multiple of a step that is at least one step; no dose stays none."""
    if step is None or dose == 0:
        return dose
    return max(round(dose / step), 1) * step


def _warn_of_none(target: Target, attained: float, by_probability: bool) -> None:
    """Say that the previous doses suffice, or that no dose does better."""
    if by_probability:
        warn(
            f"previous doses attain {target} with a probability of {attained:.3f} without a further dose, and no dose "
            "is needed or better: the dose for this target is 0."
        )
        return
    warn(
        f"previous doses keep the patient at or above {target} by {target.time:g} without a further dose: the dose for "
        "this target is 0."
    )
