"""The equation of any linear compartments: one to three of them, ways of absorption, a metabolite."""

from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest_domains.physiology.events import Arrival, DoseRecords
from metaest_domains.physiology.linear_equation import LinearEquation
from metaest_domains.physiology.linear_flow import System, rates_of
from metaest_domains.physiology.mammillary import Mammillary

__all__ = ["LinearCompartments"]

UPTAKES = ("first-order", "zero-order", "transit")


@dataclass(frozen=True)
class LinearCompartments(LinearEquation):
    """Concentrations in linear compartments.

    Attributes
    ----------
    n_compartments : int
        The central one and those that exchange with it.
    uptake : {"first-order", "zero-order", "transit"}
        How oral doses are absorbed.
    n_transit : int
    metabolite : bool
        Whether there is a compartment of a metabolite, the last one.
    output : int or None
        Column with the number of the compartment in which a row was measured; None for the central one.
    """

    n_compartments: int = 1
    uptake: str = "first-order"
    n_transit: int = 0
    metabolite: bool = False
    output: int | None = None

    def __call__(self, X: Tensor, **constants: Tensor) -> Tensor:
        """Return the concentrations, of shape (n_rows,)."""
        return self.by_events(X, constants)

    def concentration(self, amount: Tensor, since: Tensor, duration: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Return the concentrations in the central compartment, given the constants of each row's patient."""
        oldest = since.max(dim=1).values
        nothing = torch.zeros_like(amount)
        records = DoseRecords(oldest[:, None] - since, amount, duration, *[nothing] * 5)
        amounts = self._amounts(oldest, records, lambda start, end: constants, None)
        return amounts[:, self.central] / constants["volume"][:, 0]

    @property
    def rows_alone(self) -> bool:
        """Whether rows that nobody measured, on which an equation is tried otherwise, mean nothing to this one."""
        return True

    @property
    def _chain(self) -> int:
        """The number of states before the central one."""
        return {"zero-order": 0, "first-order": 1, "transit": self.n_transit + 2}[self.uptake] if self.oral else 0

    @property
    def states(self) -> tuple[int, ...]:
        """The state of each compartment that doses can enter, in the order of their numbers."""
        first = self._chain
        return (*((0,) if self.oral else ()), *range(first, self.n_states))

    @property
    def n_states(self) -> int:
        """The number of states."""
        return self._chain + self.n_compartments + self.metabolite

    def arrival(self, usual: Tensor, constants: dict[str, Tensor]) -> Arrival:
        """Return how doses arrive; `usual` tells which of them enter the usual compartment of the route."""
        arrival = super().arrival(usual, constants)
        if not self.oral:
            return arrival
        if "bioavailability" in constants:
            arrival = arrival._replace(available=torch.where(usual, constants["bioavailability"], 1.0))
        if self.uptake == "zero-order":
            arrival = arrival._replace(lasting=torch.where(usual, constants["absorption_time"], 0.0))
        return arrival

    def system(self, constants: dict[str, Tensor]) -> System:
        """Return the system, given constants of shape (n_rows, n_intervals)."""
        out, volume = constants["clearance"] / constants["volume"], constants["volume"]
        exchanges = [("exchange", "peripheral"), ("exchange_2", "peripheral_2")][: self.n_compartments - 1]
        if self.n_compartments < 3 and not self.metabolite and self._chain < 2:
            entering = constants["absorption_rate"] if self._chain else None
            pairs = [(constants[q] / volume, constants[q] / constants[v]) for q, v in exchanges]
            there, back = pairs[0] if pairs else (None, None)
            return Mammillary(out, there, back, entering)
        c = self._chain
        between: dict[tuple[int, int], Tensor] = {}
        if self.oral and self.uptake == "transit":
            passing = (self.n_transit + 1) / constants["transit_time"]
            between |= {(i + 1, i): passing for i in range(self.n_transit + 1)}
        if c:
            between[c, c - 1] = constants["absorption_rate"]
        for k, (q, v) in enumerate(exchanges, 1):
            between |= {(c + k, c): constants[q] / volume, (c, c + k): constants[q] / constants[v]}
        if not self.metabolite:
            return rates_of(self.n_states, between, {c: out})
        last, share = self.n_states - 1, constants["formation"]
        between[last, c] = share * out
        leaving = constants["metabolite_clearance"] / constants["metabolite_volume"]
        return rates_of(self.n_states, between, {c: (1 - share) * out, last: leaving})

    def observed(self, X: Tensor, amounts: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Return the concentrations, given amounts of shape (n_rows, n_states) and constants at the time of rows."""
        parent = super().observed(X, amounts, constants)
        if self.output is None:
            return parent
        made = amounts[:, -1] / constants["metabolite_volume"][:, 0]
        return torch.where(X[:, self.output] == len(self.states), made, parent)

    def check_rows(self, X: NDArray[Any], y: NDArray[Any] | None) -> None:
        """Raise a ValueError when rows cannot be those of a patient; y is None for rows to be predicted."""
        super().check_rows(X, y)
        if self.output is None:
            return
        central, last = (2 if self.oral else 1), len(self.states)
        measured = X[:, self.output].astype(float)
        wrong = (measured != central) & (measured != last)
        if wrong.any():
            row = int(wrong.argmax())
            raise ValueError(
                f"column {self.name_of_column(self.output)} is {measured[row]:g} in row {row}: rows are measured in "
                f"compartment {central} (the central one) or {last} (the metabolite)."
            )
