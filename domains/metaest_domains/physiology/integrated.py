"""Models without a closed form, integrated: elimination that saturates.

The time since an event is stretched to [0, 1] for every row, so that rows of different times, and of different
patients, are integrated at once: each row is a system of its own. Time is stretched as its square, with short steps
after an event, where things change fast. Steps are of fixed number (Runge and Kutta's of order 4, by torchdiffeq), so
that a row does not depend on its neighbours, as it would with steps chosen for all.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from metaest import Parameter
from metaest_domains.physiology.compartments import CompartmentRegressor
from metaest_domains.physiology.patient_equation import PatientEquation

__all__ = ["MichaelisMentenRegressor", "integrate"]

STEPS = 48


def integrate(
    slope: Callable[[Tensor, Tensor], Tensor], state: Tensor, start: Tensor, end: Tensor, steps: int = STEPS
) -> Tensor:
    """Return the state of every row at its own end.

    Parameters
    ----------
    slope : callable
        ``slope(t, state)`` with t of shape (n_rows,), state and result of shape (n_states, n_rows).
    state : Tensor of shape (n_states, n_rows)
    start, end : Tensor of shape (n_rows,)
        Where the end is not after the start, nothing happens.
    steps : int, default=48

    Returns
    -------
    Tensor of shape (n_states, n_rows)

    Raises
    ------
    ImportError
        When torchdiffeq is not installed: ``pip install metaest[ode]``.
    """
    try:
        from torchdiffeq import odeint
    except ImportError as error:
        raise ImportError("models without a closed form need torchdiffeq: pip install 'metaest[ode]'.") from error
    length = (end - start).clamp(min=0)

    def stretched(s: Tensor, own: Tensor) -> Tensor:
        return 2 * s * length * slope(start + length * s * s, own)

    grid = torch.linspace(0, 1, steps + 1, dtype=state.dtype)
    found: Tensor = odeint(stretched, state, grid, method="rk4")[-1]
    return found


class SaturableEquation(PatientEquation):
    """Concentrations in one compartment whose elimination saturates."""

    def concentration(self, amount: Tensor, since: Tensor, duration: Tensor, own: dict[str, Tensor]) -> Tensor:
        """Return concentrations, integrated from dose to dose and from the end of one infusion to the next."""
        volume, capacity, affinity = (own[name][:, 0] for name in ("volume", "capacity", "affinity"))
        zero, n = torch.zeros_like(since[:, 0]), since.shape[1]
        if self.oral:
            since = since - own["lag"] if "lag" in own else since
            rate = own["absorption"][:, 0]
        # times run backwards: since is the age of a dose at the time of the row
        ages = torch.cat([since, since - duration], dim=1).clamp(min=0)
        events = ages.sort(dim=1, descending=True).values
        given = (since >= 0) & (amount > 0)
        state = torch.stack([zero, zero])  # what waits in the gut, and the concentration
        for j in range(2 * n):
            now = events[:, j]
            # several events at one time are one; a dose at once begins and ends at the same time
            fresh = now < events[:, j - 1] if j else torch.ones_like(now, dtype=torch.bool)
            at_once = (given & (since == now[:, None]) & (duration == 0) & fresh[:, None]) * amount
            at_once = at_once.sum(dim=1)
            if self.oral:
                state = torch.stack([state[0] + at_once, state[1]])
            else:
                state = torch.stack([state[0], state[1] + at_once / volume])
            after = events[:, j + 1] if j + 1 < 2 * n else zero
            running = given & (duration > 0) & (since >= now[:, None]) & (since - duration < now[:, None])
            inflow = (running * amount / torch.where(duration > 0, duration, 1.0)).sum(dim=1)

            def slope(t: Tensor, own_state: Tensor, inflow: Tensor = inflow) -> Tensor:
                gut, c = own_state
                leaving = rate * gut if self.oral else zero
                return torch.stack([-leaving, (leaving + inflow - capacity * c / (affinity + c)) / volume])

            state = integrate(slope, state, -now, -after)
        return state[1]


class MichaelisMentenRegressor(CompartmentRegressor):
    r"""One compartment whose elimination saturates.

    .. math:: V \frac{dC}{dt} = \text{input} - \frac{v_{max} C}{K_m + C}

    Integrated from dose to dose. Absorption is a rate of its own here, as there is no rate of elimination that it could
    be compared with.

    ============== ============= ========= ===================================================
    constant       unit          bounds    meaning
    ============== ============= ========= ===================================================
    ``volume``     volume        above 0   V, or V/F of oral doses
    ``capacity``   amount/time   above 0   v_max, or v_max/F
    ``affinity``   concentration above 0   K_m, at which elimination is at half its greatest
    ``absorption`` 1/time        above 0   k_a; oral doses
    ``lag``        time          above 0   until absorption begins; with ``lag=True``
    ============== ============= ========= ===================================================

    Parameters
    ----------
    route, allometric, lag, fixed, parameters
        As :class:`CompartmentRegressor` takes them (the capacity grows with the weight's power 0.75); the rest as
        :class:`metaest.EquationRegressor` does. Needs torchdiffeq (``pip install metaest[ode]``).

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
        "capacity": Parameter(1.0, lower=0, unit="amount/time", meaning="greatest rate of elimination"),
        "affinity": Parameter(1.0, lower=0, unit="concentration", meaning="where elimination is half of that"),
        "absorption": Parameter(1.0, lower=0, unit="1/time", meaning="rate of absorption"),
    }
