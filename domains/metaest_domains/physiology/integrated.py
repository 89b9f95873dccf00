"""One compartment with saturable elimination, which has no closed form and is integrated numerically.

The amount in the gut has a closed form, so that one differential equation remains. With concentrations in units of the
affinity, and doses scaled accordingly, a patient's curve depends on the rates of elimination and absorption only.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest import Parameter
from metaest_domains.physiology.compartments import CompartmentRegressor
from metaest_domains.physiology.patient_equation import PatientEquation
from metaest_domains.physiology.radau import Array, Partials, System
from metaest_domains.physiology.radau_slopes import check_integrated, integrate

__all__ = ["MichaelisMentenRegressor"]


@dataclass(frozen=True)
class SaturableElimination(System):
    r"""Concentrations of n trajectories in units of the affinity, :math:`x' = \rho\,u(t) - k x / (1 + x)`.

    The parameters are the rate of elimination :math:`k = v_{max} / (V K_m)`, the rate of absorption and the factor
    :math:`\rho = 1 / (V K_m)` of amounts. The memory holds the amount in the gut, the same weighted by the ages of the
    doses and by their squares (for derivatives with respect to the rate of absorption), and the rate of infusion.

    Attributes
    ----------
    stops : ndarray of shape (n_stops, n)
        Times of doses and of the ends of infusions.
    gut, vein, infusion : ndarray of shape (n_stops, n)
        Amounts that enter the gut and the vein at once, and the rate of infusion after each stop.
    """

    stops: Array
    gut: Array
    vein: Array
    infusion: Array
    jump_by: ClassVar[int] = 2

    @classmethod
    def of(cls, inputs: Array, n_doses: int, oral: bool) -> "SaturableElimination":
        """Create the system from the doses of trajectories: amounts, times and durations, of shape (n, 3 n_doses)."""
        amount, start, duration = inputs.T.reshape(3, n_doses, -1)
        given = amount > 0
        infused = (amount > 0) & (duration > 0)
        at_once = np.where(given & ~infused, amount, 0.0)
        rate = np.divide(amount, duration, out=np.zeros_like(amount), where=infused)
        stops = np.where(given, start, np.inf)
        running = infused.astype(np.int64)
        if infused.any():
            stops = np.concatenate([stops, np.where(infused, start + duration, np.inf)])
            at_once = np.concatenate([at_once, np.zeros_like(amount)])
            rate = np.concatenate([rate, -rate])
            running = np.concatenate([running, -running])
        order = np.argsort(stops, axis=0, kind="stable")
        stops, at_once, rate, running = (
            np.take_along_axis(column, order, 0) for column in (stops, at_once, rate, running)
        )
        # once all infusions have ended the rate is exactly 0, whatever the rounding of the sum
        infusion = np.where(running.cumsum(axis=0) > 0, rate.cumsum(axis=0), 0.0)
        nothing = np.zeros_like(at_once)
        return cls(stops, at_once if oral else nothing, nothing if oral else at_once, infusion)

    def first_memory(self) -> Array:
        """Return the memory before the first dose: an empty gut, and no infusion."""
        return np.zeros((4, self.stops.shape[1]))

    def pass_stop(self, number: NDArray[np.int64], due: NDArray[np.bool_], memory: Array) -> tuple[Array, Array]:
        """Return the amounts that enter the vein at once, and the memory afterwards."""
        at = np.minimum(number, len(self.stops) - 1), np.arange(len(number))
        waiting, aged, squared, flowing = memory
        memory = np.stack(
            [waiting + np.where(due, self.gut[at], 0.0), aged, squared, np.where(due, self.infusion[at], flowing)]
        )
        return np.where(due, self.vein[at], 0.0), memory

    def fastest(self, memory: Array, theta: Array) -> Array:
        """Return the rate of absorption, or 0 for an empty gut."""
        return np.where(memory[0] > 0, theta[1], 0.0)

    def drive(self, tau: Array, memory: Array, theta: Array) -> Array:
        """Return the inflow at times of shape (s, n)."""
        return np.asarray(theta[2] * (theta[1] * memory[0] * np.exp(-theta[1] * tau) + memory[3]))

    def slope(self, x: Array, drive: Array, theta: Array) -> tuple[Array, Array]:
        """Return the slope of x and its derivative; a negative x, a result of rounding, returns to 0 as well."""
        below = 1 / (1 + np.abs(x))
        return drive - theta[0] * x * below, -theta[0] * below**2

    def advance(self, h: Array, memory: Array, theta: Array) -> Array:
        """Return the memory after steps of lengths h."""
        left = np.exp(-theta[1] * h)
        waiting, aged, squared, flowing = memory
        return np.stack(
            [waiting * left, (aged + h * waiting) * left, (squared + h * (2 * aged + h * waiting)) * left, flowing]
        )

    def partials(self, x: Array, tau: Array, memory: Array, theta: Array) -> Partials:
        """Return the partial derivatives of the slope."""
        k, absorption, factor = theta
        left = np.exp(-absorption * tau)
        waiting = memory[0] * left
        aged = (memory[1] + tau * memory[0]) * left
        squared = (memory[2] + tau * (2 * memory[1] + tau * memory[0])) * left
        inflow = absorption * waiting + memory[3]
        faster = waiting - absorption * aged
        below = 1 / (1 + np.abs(x))
        zero = np.zeros_like(x)
        second = np.zeros((3, 3, *x.shape))
        second[1, 2] = second[2, 1] = faster
        second[1, 1] = factor * (absorption * squared - 2 * aged)
        return Partials(
            x=-k * below**2,
            xx=2 * k * np.sign(x) * below**3,
            theta=np.stack([-x * below, factor * faster, inflow]),
            x_theta=np.stack([-(below**2), zero, zero]),
            theta_theta=second,
        )

    def take(self, chosen: NDArray[Any]) -> "SaturableElimination":
        """Return the system of the chosen trajectories."""
        return SaturableElimination(*(part[:, chosen] for part in (self.stops, self.gut, self.vein, self.infusion)))


class SaturableEquation(PatientEquation):
    """Concentrations in one compartment with saturable elimination."""

    def __call__(self, X: Tensor, **constants: Tensor) -> Tensor:
        """Return the concentrations, of shape (n_rows,); NaN where the tolerance was not met."""
        amount, start, duration = self.doses.of(X)
        return self._integrated(X[:, self.doses.time], start, amount, duration, self.of_patient(X, constants))

    def concentration(self, amount: Tensor, since: Tensor, duration: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Return the concentrations, given the times since each dose and the constants of each row's patient."""
        oldest = since.max(dim=1).values
        return self._integrated(oldest, oldest[:, None] - since, amount, duration, constants)

    def _integrated(
        self, time: Tensor, start: Tensor, amount: Tensor, duration: Tensor, constants: dict[str, Tensor]
    ) -> Tensor:
        of_row = {name: value[:, 0] for name, value in constants.items()}
        if self.oral and "lag" in of_row:
            time = time - of_row["lag"]
        factor = 1 / (of_row["volume"] * of_row["affinity"])
        absorption = of_row["absorption"] if self.oral else torch.ones_like(factor)
        theta = torch.stack([of_row["capacity"] * factor, absorption, factor])

        def system_of(inputs: Array) -> SaturableElimination:
            return SaturableElimination.of(inputs, amount.shape[1], self.oral)

        return of_row["affinity"] * integrate(time, theta, torch.cat([amount, start, duration], dim=1), system_of)

    def check_values(self, X: NDArray[Any], values: NDArray[Any]) -> None:
        """Raise a ValueError when a concentration could not be integrated to the tolerance."""
        check_integrated(X[:, self.doses.time], values, "concentration")


class MichaelisMentenRegressor(CompartmentRegressor):
    r"""One compartment with saturable (Michaelis-Menten) elimination.

    .. math:: V \frac{dC}{dt} = \text{input} - \frac{v_{max} C}{K_m + C}

    The equation is integrated with error control: at any time, the error of a concentration is below 1e-6 of the
    patient's highest one so far. The constant ``absorption`` is the rate of absorption itself here, since a saturable
    elimination has no single rate that it could exceed.

    ============== ============= ========= ===================================================
    constant       unit          bounds    meaning
    ============== ============= ========= ===================================================
    ``volume``     volume        above 0   V, or V/F of oral doses
    ``capacity``   amount/time   above 0   v_max, or v_max/F
    ``affinity``   concentration above 0   K_m, at which elimination is half of v_max
    ``absorption`` 1/time        above 0   k_a; oral doses
    ``lag``        time          above 0   until absorption begins; with ``lag=True``
    ============== ============= ========= ===================================================

    Parameters
    ----------
    route, allometric, lag, fixed, parameters
        As in :class:`CompartmentRegressor` (the capacity scales with the weight's power 0.75); the other parameters as
        in :class:`metaest.EquationRegressor`.

    References
    ----------
    J. G. Wagner (1973). Properties of the Michaelis-Menten equation and its integrated form which are useful in
    pharmacokinetics. :doi:`10.1007/BF01059625`

    Examples
    --------
    >>> from metaest_domains.physiology import MichaelisMentenRegressor
    >>> MichaelisMentenRegressor(route="iv").route
    'iv'
    """

    equation_class = SaturableEquation
    constants = {
        "volume": Parameter(1.0, lower=0, unit="volume", meaning="volume of distribution"),
        "capacity": Parameter(1.0, lower=0, unit="amount/time", meaning="maximal rate of elimination"),
        "affinity": Parameter(1.0, lower=0, unit="concentration", meaning="concentration of half-maximal elimination"),
        "absorption": Parameter(1.0, lower=0, unit="1/time", meaning="rate of absorption"),
    }
