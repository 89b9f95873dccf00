"""Amounts in linear compartments after dose records: infusions, steady states, resets and constants that change.

Every row of X has the records of its patient. Between two events (a dose, the start or the end of an infusion, a change
of constants) amounts flow by the exponential of the matrix of rates; a steady state solves for the amounts that an
interval between doses leaves as they are.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from metaest_domains.physiology.linear_flow import System, solved

__all__ = ["Arrival", "DoseRecords", "Patients", "amounts_after"]


class DoseRecords(NamedTuple):
    """Records of the patient of each row, all of shape (n_rows, n_records); see :class:`Regimen` for what they mean.

    Here the compartments count from 0 on.
    """

    time: Tensor
    amount: Tensor
    duration: Tensor
    interval: Tensor
    steady: Tensor
    compartment: Tensor
    rate: Tensor
    reset: Tensor

    def of(self, chosen: Tensor) -> "DoseRecords":
        """Return chosen records of each row, by their numbers of shape (n_rows, n)."""
        return DoseRecords(*(part.gather(1, chosen) for part in self))

    @property
    def given(self) -> Tensor:
        """Whether records bring an amount."""
        return (self.amount > 0) | ((self.steady > 0) & (self.rate > 0))


class Arrival(NamedTuple):
    """How doses arrive, all of shape (n_rows, n_records).

    Attributes
    ----------
    lag : Tensor
        Time until a dose begins to enter.
    available : Tensor
        Share of the amount that enters.
    lasting : Tensor or None
        Duration of doses of which records say none; 0 for those that enter at once.
    """

    lag: Tensor
    available: Tensor
    lasting: Tensor | None = None


class Patients(NamedTuple):
    """The system of each row's patient, and how doses enter it.

    Attributes
    ----------
    system : callable
        ``system(start, end)`` returns the :class:`System` that holds in intervals of time of shape (n_rows, n): that of
        each, or one of shape (n_rows, 1) where it never changes. An interval without length is a moment.
    arrival : callable
        ``arrival(time, compartment)`` returns the :class:`Arrival` of doses that are given at times into compartments.
    states : tuple of int
        The state that each compartment is, by its number.
    n_states : int
    changes : Tensor of shape (n_rows, n) or None
        Times at which the system changes.
    """

    system: Callable[[Tensor, Tensor], System]
    arrival: Callable[[Tensor, Tensor], Arrival]
    states: tuple[int, ...]
    n_states: int
    changes: Tensor | None = None


class _Events(NamedTuple):
    """What happens at times: amounts that enter at once, and changes of the inflow; of shape (n_rows, n, ...)."""

    time: Tensor
    amount: Tensor
    inflow: Tensor
    running: Tensor

    @classmethod
    def joined(cls, several: "list[_Events]") -> "_Events":
        return cls(*(torch.cat(parts, dim=1) for parts in zip(*several, strict=True)))

    def take(self, columns: Tensor) -> "_Events":
        return _Events(*(part[:, columns] for part in self))


def amounts_after(time: Tensor, records: DoseRecords, patients: Patients) -> Tensor:
    """Return the amounts in all compartments at the time of each row, of shape (n_rows, n_states).

    Parameters
    ----------
    time : Tensor of shape (n_rows,)
    records : DoseRecords
        A record counts from its time on.
    patients : Patients

    Raises
    ------
    NotImplementedError
        While torch traces or maps the equation.
    """
    try:
        records = _counted(time, records)
    except RuntimeError as error:  # a traced or mapped tensor has no numbers
        raise NotImplementedError(
            "the order of events depends on the values, so this equation cannot be traced or mapped."
        ) from error
    compartment = records.compartment.long()
    lag, available, lasting = patients.arrival(records.time, compartment)
    amount = records.amount * available
    by_rate = records.rate > 0
    duration = torch.where(by_rate, amount / torch.where(by_rate, records.rate, 1.0), records.duration)
    if lasting is not None:
        duration = torch.where(by_rate | (records.duration > 0), duration, lasting)
    rate = torch.where(duration > 0, amount / torch.where(duration > 0, duration, 1.0), 0.0)
    state = torch.tensor(patients.states)[compartment]
    enters = torch.nn.functional.one_hot(state, patients.n_states).to(time.dtype)
    doses = _Doses(records.time, amount, duration, rate, lag, enters)
    steady = records.steady > 0
    events, ordinary = [], torch.ones_like(steady)
    columns = torch.nonzero(steady.any(dim=0))[:, 0]
    if len(columns):
        chosen = columns.expand(len(time), -1)
        states, ordinary = _steady_states(records.of(chosen), doses.take(columns), patients)
        ordinary = torch.ones_like(steady).index_copy(1, columns, ordinary)
        events += states
    events += _entering(doses, doses.time + lag, duration, ordinary & (amount > 0))
    joined = _sorted(time, _Events.joined(events), patients.changes)
    return _carried(time, joined, patients)


class _Doses(NamedTuple):
    """Doses as they enter, of shape (n_rows, n_records), `enters` (n_rows, n_records, n_states)."""

    time: Tensor
    amount: Tensor
    duration: Tensor
    rate: Tensor
    lag: Tensor
    enters: Tensor

    def take(self, columns: Tensor) -> "_Doses":
        return _Doses(*(part[:, columns] for part in self))


def _counted(time: Tensor, records: DoseRecords) -> DoseRecords:
    """Return the records that count in each row: given until its time, and since the last restart; others are zero."""
    n = records.time.shape[1]
    here = (records.given | (records.reset > 0)) & (records.time <= time[:, None])
    restarts = here & ((records.reset > 0) | (records.steady == 1))
    place = torch.arange(n)
    if bool(restarts.any()):
        # the last restart in the order of time, then of columns
        at = torch.where(restarts, records.time, -torch.inf)
        last = at.amax(dim=1, keepdim=True)
        which = torch.where(at == last, place, -1).amax(dim=1, keepdim=True)
        after = (records.time > last) | ((records.time == last) & (place >= which))
        here = here & torch.where(restarts.any(dim=1, keepdim=True), after, True)
    here = here & records.given
    width = max(int(here.sum(dim=1).max()), 1) if len(here) else 1
    order = torch.argsort(~here, dim=1, stable=True)[:, :width]
    kept = here.gather(1, order)
    return DoseRecords(*(torch.where(kept, part, 0.0) for part in records.of(order)))


def _entering(doses: _Doses, start: Tensor, duration: Tensor, real: Tensor) -> list[_Events]:
    """Return the events of doses that enter at once, or of infusions that begin and end."""
    slow = real & (duration > 0)
    at_once = torch.where(real & ~slow, doses.amount, 0.0)[..., None] * doses.enters
    rate = torch.where(slow, doses.rate, 0.0)[..., None] * doses.enters
    running = slow.long()[..., None] * doses.enters.long()
    # a record without an amount is no event
    nowhere = torch.where(real, start, -torch.inf)
    events = [_Events(nowhere, at_once, rate, running)]
    if bool(slow.any()):
        columns = torch.nonzero(slow.any(dim=0))[:, 0]
        end = torch.where(slow, start + duration, -torch.inf)
        events.append(_Events(end, torch.zeros_like(rate), -rate, -running).take(columns))
    return events


def _sorted(time: Tensor, events: _Events, changes: Tensor | None) -> _Events:
    """Return the events until the time of each row in order; the others happen at that time and change nothing."""
    at = events.time.detach()
    real = torch.isfinite(at) & (at <= time[:, None])
    if changes is not None and changes.shape[1]:
        first = torch.where(real, at, torch.inf).amin(dim=1, keepdim=True)
        inside = (changes > first) & (changes < time[:, None])
        nothing = torch.zeros(*changes.shape, events.amount.shape[2], dtype=time.dtype)
        events = _Events.joined([events, _Events(changes, nothing, nothing, nothing.long())])
        real = torch.cat([real, inside], dim=1)
    when = torch.where(real, events.time, time[:, None])
    order = torch.where(real, when.detach(), torch.inf).argsort(dim=1, stable=True)
    order = order[:, : max(int(real.sum(dim=1).max()), 1) if len(real) else 1]
    kept = real.gather(1, order)

    def arranged(part: Tensor) -> Tensor:
        chosen = part.gather(1, order[..., None].expand(*order.shape, part.shape[2]))
        return torch.where(kept[..., None], chosen, torch.zeros_like(chosen))

    return _Events(when.gather(1, order), arranged(events.amount), arranged(events.inflow), arranged(events.running))


def _carried(time: Tensor, events: _Events, patients: Patients) -> Tensor:
    """Return the amounts at the time of each row, carried from event to event."""
    end = torch.cat([events.time[:, 1:], time[:, None]], dim=1)
    infused = bool(events.running.any())
    system = patients.system(events.time.detach(), end.detach())
    flow = system.after(end - events.time, inflow=infused)
    # once all infusions have ended the inflow is exactly 0, whatever the rounding of the sum
    inflow = torch.where(events.running.cumsum(dim=1) > 0, events.inflow.cumsum(dim=1), 0.0)
    amounts = torch.zeros_like(events.amount[:, 0])
    for e in range(events.time.shape[1]):
        amounts = amounts + events.amount[:, e]
        after = (flow.share[:, e] @ amounts[..., None])[..., 0]
        if flow.inflow is not None:
            after = after + (flow.inflow[:, e] @ inflow[:, e, :, None])[..., 0]
        amounts = after
    return amounts


def _steady_states(records: DoseRecords, doses: _Doses, patients: Patients) -> tuple[list[_Events], Tensor]:
    """Return the events of doses at steady state, and whether the dose of each record enters beside these.

    With the interval I and the lag L, doses have entered at T + L - k I for k from k0 = ceil(L / I) on; the youngest of
    them x0 = k0 I - L before T. The amounts are those x0 after the start of a period, infusions that last longer than
    that go on, and doses 0 to k0 - 1 are on their way.
    """
    steady = records.steady > 0
    plateau = steady & (records.amount == 0)
    interval = torch.where(records.interval > 0, records.interval, 1.0)
    system = patients.system(records.time, records.time)
    first = torch.ceil(doses.lag.detach() / interval)
    age = first * interval - doses.lag
    rate = torch.where(plateau, records.rate, doses.rate)
    whole = torch.floor(doses.duration.detach() / interval)
    over = doses.duration - whole * interval
    amounts = _within_period(system, doses, interval, age, whole, over)
    if bool(plateau.any()):
        entering = torch.where(plateau, rate, 0.0)[..., None] * doses.enters
        between, out = (part.expand(*age.shape, *part.shape[2:]) for part in system.rates())
        amounts = torch.where(plateau[..., None], solved(between, out, entering), amounts)
    nothing = torch.zeros_like(amounts)
    at = torch.where(steady, doses.time, -torch.inf)
    state = torch.where(steady[..., None], amounts, 0.0)
    events = [_Events(at, state, nothing, nothing.long())]
    # infusions that have begun before and go on
    for k in range(_most((doses.duration.detach() - age.detach()) / interval, steady)):
        left = doses.duration - age - k * interval
        events += _entering(doses, doses.time, left.clamp(min=0), steady & (left > 0))
    # doses on their way beside that of the record
    for k in range(1, _most(first, steady)):
        real = steady & (k < first)
        events += _entering(doses, doses.time + doses.lag - k * interval, doses.duration, real)
    return events, ~steady | ((first > 0) & ~plateau)


def _most(numbers: Tensor, real: Tensor) -> int:
    """Return the greatest of numbers rounded up, at least 0."""
    top = float(torch.where(real, numbers, 0.0).max())
    return max(math.ceil(top), 0)


def _within_period(system: System, doses: _Doses, interval: Tensor, age: Tensor, whole: Tensor, over: Tensor) -> Tensor:
    """Return the amounts at an age since the last dose has begun to enter, after endlessly many of them."""
    slow = doses.duration > 0
    at_once = torch.where(slow, 0.0, doses.amount)[..., None] * doses.enters
    rate = torch.where(slow, doses.rate, 0.0)[..., None] * doses.enters
    infused = bool(slow.any())
    period = system.after(interval, inflow=infused)
    if not infused:
        before = solved(period.share, period.gone, at_once)
        return system.after(age, inflow=False).of(before)
    # a period begins with one infusion more, for the rest of its duration, than runs through all of it
    rest = system.after(over, inflow=True)
    later = system.after((interval - over).clamp(min=0), inflow=False)
    always = whole[..., None] * rate
    nothing = torch.zeros_like(rate)
    added = later.of(rest.of(nothing, rate)) + period.of(nothing, always)
    before = solved(period.share, period.gone, added + period.of(at_once))
    now = system.after(age, inflow=True)
    short = torch.minimum(age, over)
    begun = system.after(age - short, inflow=False).of(system.after(short, inflow=True).of(nothing, rate))
    return now.of(before + at_once, always) + begun
