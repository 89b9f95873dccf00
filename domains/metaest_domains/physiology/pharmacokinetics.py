"""Models with one and two compartments in closed form; repeated doses are superposed."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaest import Parameter, Quantity
from metaest_domains.physiology.compartments import CompartmentRegressor
from metaest_domains.physiology.disposition import absorbed, bolus, infused, one_compartment, two_compartments
from metaest_domains.physiology.linear_equation import LinearEquation
from metaest_domains.physiology.mammillary import Mammillary
from metaest_domains.physiology.patient_equation import STANDARD_WEIGHT

__all__ = ["OneCompartmentRegressor", "TwoCompartmentRegressor"]

CLEARANCE = Parameter(1.0, lower=0, unit="volume/time", meaning="clearance")
VOLUME = Parameter(1.0, lower=0, unit="volume", meaning="volume of distribution, central")
ELIMINATION = Parameter(0.1, lower=0, unit="1/time", meaning="rate of elimination")
ABSORPTION = Parameter(1.0, lower=0, unit="1/time", meaning="rate of absorption above that of elimination")


class Superposition(LinearEquation):
    """Concentrations of a linear model: the sum over doses of the response to one unit, times the dose.

    Where records say more than time, amount and duration, or covariates change, amounts are carried from event to
    event.
    """

    def __call__(self, X: Tensor, **constants: Tensor) -> Tensor:
        """Return the concentrations, of shape (n_rows,)."""
        if self.doses.wide:
            return self.by_events(X, constants)
        return super().__call__(X, **constants)

    @abstractmethod
    def parts(self, constants: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return coefficients and rates after a bolus, the slowest last."""

    def rate_in(self, constants: Mapping[str, Tensor], parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return k_a, the rate of absorption: a constant, or the excess above the slowest rate of `parts` and that."""
        if "absorption_rate" in constants:
            return constants["absorption_rate"]
        return constants["absorption"] + parts[-1][1]

    def concentration(self, amount: Tensor, since: Tensor, duration: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Return the sum over doses, given the constants of each row's patient."""
        parts = self.parts(constants)
        if self.oral:
            since = since - constants["lag"] if "lag" in constants else since
            unit = absorbed(since, self.rate_in(constants, parts), parts)
        else:
            unit = bolus(since, parts)
            # by the columns and not by their numbers: an equation that looks at numbers cannot be compiled
            if self.doses.duration or duration.shape[1] > len(self.doses.amount):
                slow = duration > 0
                unit = torch.where(slow, infused(since, torch.where(slow, duration, 1.0), parts), unit)
        return (amount * unit).sum(dim=1)

    def quantities(self) -> dict[str, Quantity]:
        """Return quantities reported beside the constants: the half-life, and for oral doses the rate of absorption.

        If constants are scaled by weight, these quantities hold for 70 kg, as the constants do.
        """
        at = "" if self.weight is None else f", at {STANDARD_WEIGHT:g} kg"

        def rates(constants: Mapping[str, Any]) -> tuple[Any, Any]:
            scaled = self.constants_of(constants)
            parts = self.parts(scaled)
            slowest = parts[-1][1]
            shape = np.shape(next(iter(constants.values())))
            entering = self.rate_in(scaled, parts) if self.oral else slowest
            return slowest[:, 0].numpy().reshape(shape), entering[:, 0].numpy().reshape(shape)

        quantities = {
            "half_life": Quantity(
                lambda **constants: np.log(2) / rates(constants)[0], "time", f"half-life of terminal elimination{at}"
            )
        }
        if self.oral and not self.by_rate_in:
            quantities["absorption_rate"] = Quantity(
                lambda **constants: rates(constants)[1], "1/time", f"k_a, the rate of absorption{at}"
            )
        return quantities


class OneCompartment(Superposition):
    """Concentrations in one compartment."""

    def parts(self, constants: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return the coefficient and rate after a bolus."""
        return one_compartment(constants["clearance"], constants["volume"])

    @property
    def states(self) -> tuple[int, ...]:
        """The state of each compartment that doses can enter, in the order of their numbers."""
        return (0, 1) if self.oral else (0,)

    @property
    def n_states(self) -> int:
        """The number of states."""
        return len(self.states)

    def system(self, constants: dict[str, Tensor]) -> Mammillary:
        """Return the system, given constants of shape (n_rows, n_intervals)."""
        entering = self.rate_in(constants, self.parts(constants)) if self.oral else None
        return Mammillary(constants["clearance"] / constants["volume"], entering=entering)


class TwoCompartments(Superposition):
    """Concentrations in the central one of two compartments."""

    def parts(self, constants: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return coefficients and rates after a bolus."""
        return two_compartments(
            constants["clearance"], constants["volume"], constants["exchange"], constants["peripheral"]
        )

    @property
    def states(self) -> tuple[int, ...]:
        """The state of each compartment that doses can enter, in the order of their numbers."""
        return (0, 1, 2) if self.oral else (0, 1)

    @property
    def n_states(self) -> int:
        """The number of states."""
        return len(self.states)

    def system(self, constants: dict[str, Tensor]) -> Mammillary:
        """Return the system, given constants of shape (n_rows, n_intervals)."""
        central, exchange = constants["volume"], constants["exchange"]
        entering = self.rate_in(constants, self.parts(constants)) if self.oral else None
        return Mammillary(
            constants["clearance"] / central, exchange / central, exchange / constants["peripheral"], entering
        )


class OneCompartmentRegressor(CompartmentRegressor):
    r"""One compartment with first-order elimination.

    .. math:: C(t) = \sum_j D_j \frac{k_a}{V (k_a - k_e)} \left(e^{-k_e (t - t_j)} - e^{-k_a (t - t_j)}\right), \qquad
              k_e = CL / V, \quad k_a = k_e + a, \quad a > 0

    for oral doses; :math:`\frac{D}{V} e^{-k_e t}` after an intravenous bolus, convolved with the input for an infusion.
    Absorption is faster than elimination by construction: the two rates cannot change places (flip-flop), unless k_a
    itself is the constant, as in most published models.

    =================== ============= ========= ===================================================
    constant            unit          bounds    meaning
    =================== ============= ========= ===================================================
    ``clearance``       volume/time   above 0   CL, or CL/F of oral doses
    ``volume``          volume        above 0   V, or V/F; with ``parametrization="volume"``
    ``elimination``     1/time        above 0   k_e; with ``parametrization="rate"``
    ``absorption``      1/time        above 0   a, by which k_a exceeds k_e; oral doses
    ``absorption_rate`` 1/time        above 0   k_a in place of a; with ``absorption="rate"``
    ``lag``             time          above 0   until absorption begins; with ``lag=True``
    =================== ============= ========= ===================================================

    The parameters are those of :class:`CompartmentRegressor`.

    References
    ----------
    M. Gibaldi, D. Perrier (1982). Pharmacokinetics, 2nd edition. Marcel Dekker.

    Examples
    --------
    >>> from metaest_datasets import load_theophylline
    >>> from metaest_domains.physiology import OneCompartmentRegressor, clearance
    >>> patients = load_theophylline(exclude_time_zero=True)
    >>> model = OneCompartmentRegressor(noise="additive", random=["clearance", "absorption"]).fit(patients[:11])
    >>> patient = model.adapt(patients[11].X[[2, 5, 8]], patients[11].y[[2, 5, 8]])
    >>> cl = clearance(patient)
    >>> cl.lower < cl.value < cl.upper
    True
    """

    equation_class = OneCompartment
    constants = {"clearance": CLEARANCE, "volume": VOLUME, "elimination": ELIMINATION, "absorption": ABSORPTION}


class TwoCompartmentRegressor(CompartmentRegressor):
    r"""Two compartments with first-order elimination from the central one.

    .. math:: C(t) = \sum_j D_j \left(A e^{-\alpha (t - t_j)} + B e^{-\beta (t - t_j)}\right)

    after intravenous doses, with the rates :math:`\alpha > \beta` that solve
    :math:`s^2 - (k_{10} + k_{12} + k_{21}) s + k_{10} k_{21} = 0`, :math:`k_{10} = CL / V`, :math:`k_{12} = Q / V`,
    :math:`k_{21} = Q / V_2`; convolved with first-order absorption for oral doses, whose rate is
    :math:`k_a = \beta + a` with a above 0, so that absorption and terminal elimination cannot change places.

    =================== ============= ========= ===================================================
    constant            unit          bounds    meaning
    =================== ============= ========= ===================================================
    ``clearance``       volume/time   above 0   CL, or CL/F of oral doses
    ``volume``          volume        above 0   V of the central compartment, or V/F
    ``elimination``     1/time        above 0   k_10, with ``parametrization="rate"`` in place of V
    ``exchange``        volume/time   above 0   Q, between the compartments
    ``peripheral``      volume        above 0   V_2 of the other compartment
    ``absorption``      1/time        above 0   a, by which k_a exceeds beta; oral doses
    ``absorption_rate`` 1/time        above 0   k_a in place of a; with ``absorption="rate"``
    ``lag``             time          above 0   until absorption begins; with ``lag=True``
    =================== ============= ========= ===================================================

    The parameters are those of :class:`CompartmentRegressor`.

    References
    ----------
    M. Gibaldi, D. Perrier (1982). Pharmacokinetics, 2nd edition. Marcel Dekker.

    Examples
    --------
    >>> from metaest_domains.physiology import TwoCompartmentRegressor
    >>> TwoCompartmentRegressor(route="iv", random=["clearance", "volume"]).route
    'iv'
    """

    equation_class = TwoCompartments
    constants = {
        "clearance": CLEARANCE,
        "volume": VOLUME,
        "elimination": ELIMINATION,
        "exchange": Parameter(1.0, lower=0, unit="volume/time", meaning="exchange between the compartments"),
        "peripheral": Parameter(1.0, lower=0, unit="volume", meaning="volume of the other compartment"),
        "absorption": ABSORPTION,
    }
