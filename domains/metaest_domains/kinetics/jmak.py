"""Johnson-Mehl-Avrami-Kolmogorov kinetics at constant temperature."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest import Parameter, TaskSet
from metaest_domains.kinetics.catalogue import Inputs, KineticRegressor
from metaest_domains.kinetics.guesses import half_time, middle_temperature, slope_of_rates
from metaest_domains.kinetics.rates import arrhenius, begun

__all__ = ["INCUBATION", "PLATEAU", "JMAKArrheniusRegressor", "JMAKRegressor"]

# value when the constant is not fitted, and its parameter when it is
INCUBATION = (0.0, Parameter(0.1, unit="time", meaning="incubation time"))
PLATEAU = (1.0, Parameter(0.95, lower=0, meaning="final fraction"))


class JMAKRegressor(KineticRegressor):
    r"""JMAK (Avrami) kinetics at constant temperature.

    .. math:: X(t) = X_\infty \left(1 - e^{-(k (t - t_0))^n}\right)

    The input is ``time``; the target is the transformed fraction. k is in 1/time; some books write
    :math:`1 - e^{-K t^n}` with :math:`K = k^n`, whose unit depends on n.

    =============== ========= ======== ==================================================
    constant        unit      bounds   meaning
    =============== ========= ======== ==================================================
    ``k``           1/time    above 0  rate; 63 % are transformed at t0 + 1/k
    ``n``                     above 0  Avrami exponent: 1 to 4 by nucleation and growth
    ``incubation``  time               t0; optional, otherwise 0
    ``plateau``               above 0  final X; optional, otherwise 1
    =============== ========= ======== ==================================================

    The parameters are those of :class:`KineticRegressor`.

    References
    ----------
    M. Avrami (1939). Kinetics of phase change I. :doi:`10.1063/1.1750380`; (1940) II. :doi:`10.1063/1.1750631`.
    W. A. Johnson, R. F. Mehl (1939). Reaction kinetics in processes of nucleation and growth. Transactions of the AIME
    135, 416-442. A. N. Kolmogorov (1937). On the statistical theory of the crystallization of metals. Izvestiya
    Akademii Nauk SSSR, Seriya Matematicheskaya 1, 355-359.

    Examples
    --------
    >>> from metaest_datasets import make_avrami_tasks
    >>> from metaest_domains.kinetics import JMAKRegressor, half_transformation_time
    >>> tasks, _ = make_avrami_tasks(20, random_state=0)
    >>> model = JMAKRegressor().fit(tasks[:19])
    >>> alloy = model.adapt([[0.4], [0.9]], [0.15, 0.55])
    >>> half = half_transformation_time(alloy)
    >>> half.lower < half.value < half.upper
    True
    """

    constants = {
        "k": Parameter(1.0, lower=0, unit="1/time", meaning="rate"),
        "n": Parameter(2.0, lower=0, meaning="Avrami exponent"),
    }
    optional_constants = {"incubation": INCUBATION, "plateau": PLATEAU}

    @staticmethod
    def formula(time: Tensor, k: Tensor, n: Tensor, incubation: Tensor, plateau: Tensor) -> Tensor:
        """Return X."""
        return plateau * (1 - torch.exp(-(begun(k * (time - incubation)) ** n)))

    @staticmethod
    def inverse(fraction: Any, k: Any, n: Any, incubation: Any, plateau: Any) -> Any:
        """Return the time at which a fraction is transformed; infinite above the plateau."""
        return incubation + avrami_argument(fraction, n, plateau) / k

    def guess(self, inputs: Inputs, y: NDArray[Any], tasks: TaskSet) -> dict[str, float]:
        """Read k off the half-times."""
        half = half_time(inputs["time"], y, tasks)
        return {"k": float(np.sqrt(np.log(2)) / half), "incubation": 0.1 * half}


class JMAKArrheniusRegressor(KineticRegressor):
    r"""JMAK kinetics whose rate follows Arrhenius' law, each row at its own constant temperature.

    .. math:: X(t, T) = X_\infty \left(1 - e^{-(k t - k_\mathrm{ref} t_0)^n}\right), \qquad
              k = k_\mathrm{ref} \exp\left(-\frac{E}{R}\left(\frac1T - \frac1{T_\mathrm{ref}}\right)\right)

    The inputs are ``time`` and ``temperature`` (K). The data determine the rate at a reference temperature within their
    range much better than a pre-exponential factor, which :func:`pre_exponential` computes. Every row has one constant
    temperature; for changing temperatures see :class:`NonIsothermalJMAKRegressor`. The incubation time is that at the
    reference temperature, and scales with 1 / k, as the additivity rule requires.

    =============== ========= ======== ==================================================
    constant        unit      bounds   meaning
    =============== ========= ======== ==================================================
    ``k_ref``       1/time    above 0  rate at the reference temperature
    ``E``           kJ/mol             activation energy; negative where cooling speeds up
    ``n``                     above 0  Avrami exponent
    ``incubation``  time               at the reference; optional, otherwise 0
    ``plateau``               above 0  optional, otherwise 1
    ``reference``   K                  held: the mean temperature of the training rows
    =============== ========= ======== ==================================================

    The parameters are those of :class:`KineticRegressor`.

    References
    ----------
    M. Avrami (1940). Kinetics of phase change II. :doi:`10.1063/1.1750631`; S. Arrhenius (1889).
    :doi:`10.1515/zpch-1889-0416`

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_domains.kinetics import JMAKArrheniusRegressor, activation_energy
    >>> rng, R = np.random.default_rng(0), 8.314e-3
    >>> def curve(E):  # one material at three temperatures
    ...     T, t = np.repeat([590.0, 600.0, 610.0], 5), rng.uniform(10, 200, 15)
    ...     k = 0.01 * np.exp(-E / R * (1 / T - 1 / 600))
    ...     return np.column_stack([t, T]), 1 - np.exp(-((k * t) ** 2)) + 0.01 * rng.standard_normal(15)
    >>> model = JMAKArrheniusRegressor(random=["k_ref", "E"]).fit([curve(E) for E in rng.normal(150, 20, 12)])
    >>> energy = activation_energy(model.adapt(*curve(160.0)))  # kJ/mol
    >>> energy.lower < 160 < energy.upper
    True
    """

    read_off = ("reference",)
    inputs = ("time", "temperature")
    constants = {
        "k_ref": Parameter(1.0, lower=0, unit="1/time", meaning="rate at the reference temperature"),
        "E": Parameter(100.0, unit="kJ/mol", meaning="activation energy"),
        "n": Parameter(2.0, lower=0, meaning="Avrami exponent"),
    }
    optional_constants = {"incubation": INCUBATION, "plateau": PLATEAU}

    @staticmethod
    def formula(
        time: Tensor,
        temperature: Tensor,
        k_ref: Tensor,
        E: Tensor,
        n: Tensor,
        incubation: Tensor,
        plateau: Tensor,
        reference: float,
    ) -> Tensor:
        """Return X."""
        k = arrhenius(temperature, k_ref, E, reference)
        return plateau * (1 - torch.exp(-(begun(k * time - k_ref * incubation) ** n)))

    @staticmethod
    def inverse(
        fraction: Any, temperature: Any, k_ref: Any, E: Any, n: Any, incubation: Any, plateau: Any, reference: float
    ) -> Any:
        """Return the time at which a fraction is transformed at a temperature; infinite above the plateau."""
        return (incubation * k_ref + avrami_argument(fraction, n, plateau)) / arrhenius(
            temperature, k_ref, E, reference
        )

    def guess(self, inputs: Inputs, y: NDArray[Any], tasks: TaskSet) -> dict[str, float]:
        """Read the rate off the half-times, and the activation energy off their logarithms."""
        half = half_time(inputs["time"], y, tasks)
        return {
            "k_ref": float(np.sqrt(np.log(2)) / half),
            "E": slope_of_rates(inputs["time"], inputs["temperature"], y, tasks),
            "incubation": 0.1 * half,
            "reference": middle_temperature(inputs["temperature"]),
        }


def avrami_argument(fraction: Any, n: Any, plateau: Any) -> Any:
    """Return the product k t at which a fraction is transformed; infinite above the plateau."""
    share = np.asarray(fraction) / plateau
    left = np.where(share < 1, 1 - np.minimum(share, 1 - 1e-16), 1.0)
    return np.where(share < 1, (-np.log(left)) ** (1 / n), np.inf)
