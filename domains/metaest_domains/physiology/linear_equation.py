"""Concentrations of linear compartments, carried from event to event: any dose records, constants that change."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest_domains.physiology.dose_records import is_given
from metaest_domains.physiology.events import Arrival, DoseRecords, Patients, amounts_after
from metaest_domains.physiology.linear_flow import System
from metaest_domains.physiology.patient_equation import PatientEquation
from metaest_domains.physiology.row_blocks import by_blocks

__all__ = ["LinearEquation"]

# events of the rows that are evaluated at once: some 20 MB of what derivatives need
BLOCK = 30_000


class LinearEquation(PatientEquation):
    """Concentrations of a linear model; a subclass gives its system of compartments.

    Doses name compartments by their numbers from 1 on. With oral doses, the first is the one where they are absorbed
    from, and the second the central one; otherwise the first is the central one.
    """

    @property
    def rows_alone(self) -> bool:
        """Whether rows that nobody measured, on which an equation is tried otherwise, mean nothing to this one."""
        return self.doses.wide

    @property
    @abstractmethod
    def states(self) -> tuple[int, ...]:
        """The state of each compartment that doses can enter, in the order of their numbers."""

    @property
    @abstractmethod
    def n_states(self) -> int:
        """The number of states."""

    @abstractmethod
    def system(self, constants: dict[str, Tensor]) -> System:
        """Return the system, given constants of shape (n_rows, n_intervals)."""

    @property
    def central(self) -> int:
        """The state whose concentration is observed."""
        return self.states[1 if self.oral else 0]

    def observed(self, X: Tensor, amounts: Tensor, constants: dict[str, Tensor]) -> Tensor:
        """Return the concentrations, given amounts of shape (n_rows, n_states) and constants at the time of rows."""
        return amounts[:, self.central] / constants["volume"][:, 0]

    def arrival(self, usual: Tensor, constants: dict[str, Tensor]) -> Arrival:
        """Return how doses arrive; `usual` tells which of them enter the usual compartment of the route."""
        lag = torch.where(usual, constants["lag"], 0.0) if "lag" in constants else torch.zeros_like(usual.double())
        return Arrival(lag, torch.ones_like(lag))

    def by_events(self, X: Tensor, constants: Mapping[str, Any]) -> Tensor:
        """Return the concentrations, of shape (n_rows,).

        Raises
        ------
        NotImplementedError
            While torch traces or maps the equation.
        """
        try:
            rows = X.detach().numpy()
        except (RuntimeError, TypeError) as error:  # a traced or mapped tensor has no numbers
            raise NotImplementedError(
                "the order of events depends on the values, so this equation cannot be traced or mapped."
            ) from error
        names = list(constants)
        each = [torch.as_tensor(constants[name], dtype=X.dtype).expand(len(X)) for name in names]

        def evaluate(block: slice, some: Sequence[Tensor]) -> Tensor:
            return self._of_block(X[block], rows[block], dict(zip(names, some, strict=True)))

        # doses, ends of infusions and changes are events at most
        n_events = max(2 * self.doses.records(rows[:1]).time.shape[1], 1)
        n_events += sum(self.doses.path(rows[:1], name)[0].shape[1] for name, _ in self.followed.methods)
        return by_blocks(evaluate, each, len(X), max(BLOCK // n_events, 1))

    def _of_block(self, X: Tensor, rows: NDArray[Any], constants: Mapping[str, Any]) -> Tensor:
        """Return the concentrations of some rows; `rows` are the numbers of X."""
        time = X[:, self.doses.time]
        constant = None if self.changing else self.of_patient(X, constants)

        def at(start: Tensor, end: Tensor) -> dict[str, Tensor]:
            if constant is not None:
                return constant
            return self.of_intervals(X, rows, constants, start.detach().numpy(), end.detach().numpy())

        amounts = self._amounts(time, self.doses.records(X), at, self.followed.times(rows, self.doses))
        return self.observed(X, amounts, at(time[:, None], time[:, None]))

    def _amounts(
        self, time: Tensor, records: DoseRecords, at: Callable[[Tensor, Tensor], dict[str, Tensor]],
        changes: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Return the amounts at the time of each row, with constants `at` intervals."""
        patients = Patients(
            system=lambda start, end: self.system(at(start, end)),
            arrival=lambda when, number: self.arrival(number == 0, at(when, when)),
            states=self.states,
            n_states=self.n_states,
            changes=changes,
        )
        number = (records.compartment - 1).clamp(min=0)
        return amounts_after(time, records._replace(compartment=number), patients)

    def check_rows(self, X: NDArray[Any], y: NDArray[Any] | None) -> None:
        """Raise a ValueError when rows cannot be those of a patient; y is None for rows to be predicted."""
        super().check_rows(X, y)
        records: Any = self.doses.records(X.astype(float))
        compartment = records.compartment
        # a reset alone enters none, whatever its record says
        wrong = (compartment > len(self.states)) & is_given(records.amount, records.steady, records.rate)
        if wrong.any():
            raise ValueError(
                f"a dose enters compartment {compartment[wrong][0]:g}, and this model has {len(self.states)}: "
                f"{'1 is where doses are absorbed from, 2' if self.oral else '1'} is the central one."
            )
