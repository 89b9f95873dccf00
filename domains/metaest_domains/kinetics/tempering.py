"""Hardness after tempering as a function of the Hollomon-Jaffe parameter."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest import Parameter, TaskSet
from metaest.exceptions import warn
from metaest_domains.kinetics.catalogue import KELVIN, LIMITS, Inputs, KineticRegressor
from metaest_domains.kinetics.guesses import middle_temperature

__all__ = ["HollomonJaffeRegressor"]

# h; a median above this looks like seconds or minutes
MANY_HOURS = 500.0
# K; tempering temperatures below this are degrees Celsius
COLD = 320.0
# K; where all temperatures are below this, they may be degrees Celsius
COOL = 500.0


class HollomonJaffeRegressor(KineticRegressor):
    r"""Hardness after tempering for a time at a temperature.

    .. math:: H = a - b\,(P - P_\mathrm{ref}) - c\,(P - P_\mathrm{ref})^2, \qquad
              P = T\,(C + \log_{10} t) / 1000, \qquad P_\mathrm{ref} = T_\mathrm{ref}\,C / 1000

    The inputs are ``time`` in **hours**, for which C is about 20, and ``temperature`` in K. The parameter of one hour
    at a reference temperature is subtracted, so that a does not depend on C. Temperatures below 320 are refused as
    degrees Celsius, and `fit` warns where none is above 500; higher Celsius values cannot be told from kelvin.

    =============== ========= ======== ==================================================
    constant        unit      bounds   meaning
    =============== ========= ======== ==================================================
    ``a``           hardness           after one hour at the reference temperature
    ``b``           hardness           fall of hardness per unit of P there
    ``C``                     above 0  Hollomon and Jaffe's constant
    ``c``           hardness           curvature; optional, otherwise 0
    ``reference``   K                  held: the mean temperature of the training rows
    =============== ========= ======== ==================================================

    The parameters are those of :class:`KineticRegressor`.

    References
    ----------
    J. H. Hollomon, L. D. Jaffe (1945). Time-temperature relations in tempering steel. Transactions of the AIME 162,
    223-249.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_domains.kinetics import HollomonJaffeRegressor
    >>> rng = np.random.default_rng(0)
    >>> def steel(a):
    ...     t, T = 10 ** rng.uniform(-1, 1, 8), rng.uniform(500, 900, 8)  # h, K
    ...     P = (T * (20 + np.log10(t)) - 700 * 20) / 1000
    ...     return np.column_stack([t, T]), a - 5 * P + 0.5 * rng.standard_normal(8)
    >>> model = HollomonJaffeRegressor(random=["a"], fixed={"C": 20.0}).fit([steel(a) for a in rng.normal(42, 4, 10)])
    >>> round(model.population_.loc["b", "value"])
    5
    """

    read_off = ("reference",)
    inputs = ("time", "temperature")
    target = "hardness"
    limits = {
        **LIMITS,
        "time": (1e-6, "time must be above 0, in hours (hardness as quenched is not a tempering result)"),
        "temperature": (COLD, KELVIN),
    }
    constants = {
        "a": Parameter(40.0, unit="HRC", meaning="hardness after one hour at the reference temperature"),
        "b": Parameter(5.0, unit="HRC", meaning="fall of hardness per unit of the parameter"),
        "C": Parameter(20.0, lower=0, meaning="Hollomon and Jaffe's constant"),
    }
    optional_constants = {"c": (0.0, Parameter(0.5, unit="HRC", meaning="curvature"))}

    @staticmethod
    def formula(
        time: Tensor, temperature: Tensor, a: Tensor, b: Tensor, C: Tensor, c: Tensor, reference: float
    ) -> Tensor:
        """Return the hardness."""
        away = (temperature * (C + torch.log10(time.clamp(min=1e-12))) - reference * C) / 1000
        return a - b * away - c * away**2

    @staticmethod
    def examine(inputs: Inputs) -> None:
        """Warn when times look like seconds or minutes."""
        if np.median(inputs["time"]) > MANY_HOURS:
            warn(
                f"half of the times are above {MANY_HOURS:g}: times must be in hours, for which C is about 20. Ignore "
                "this warning if the steel was really held that long."
            )

    def guess(self, inputs: Inputs, y: NDArray[Any], tasks: TaskSet) -> dict[str, float]:
        """Fit the line with C = 20."""
        if inputs["temperature"].max() < COOL:
            warn(f"no temperature is above {COOL:g}: {KELVIN}.")
        reference = middle_temperature(inputs["temperature"])
        P = (inputs["temperature"] * (20 + np.log10(np.maximum(inputs["time"], 1e-12))) - 20 * reference) / 1000
        slope, level = np.polyfit(P, y, 1) if np.ptp(P) > 0 else (-5.0, y.mean())
        return {"a": float(level), "b": -float(slope), "reference": reference}
