"""Austin-Rickett kinetics, whose last part is slower than that of JMAK kinetics."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest import Parameter, TaskSet
from metaest_domains.kinetics.catalogue import Inputs, KineticRegressor
from metaest_domains.kinetics.guesses import half_time
from metaest_domains.kinetics.jmak import INCUBATION, PLATEAU
from metaest_domains.kinetics.rates import begun

__all__ = ["AustinRickettRegressor"]


class AustinRickettRegressor(KineticRegressor):
    r"""Austin-Rickett kinetics at constant temperature.

    .. math:: \frac{X}{X_\infty - X} = (k (t - t_0))^n

    The input is ``time``. The curve approaches its end more slowly than JMAK's: it suits transformations whose last
    part is slowed by impingement more than random overlap would.

    =============== ========= ======== ==================================================
    constant        unit      bounds   meaning
    =============== ========= ======== ==================================================
    ``k``           1/time    above 0  rate; half is transformed at t0 + 1/k
    ``n``                     above 0  exponent
    ``incubation``  time               t0; optional, otherwise 0
    ``plateau``               above 0  final X; optional, otherwise 1
    =============== ========= ======== ==================================================

    The parameters are those of :class:`KineticRegressor`.

    References
    ----------
    J. B. Austin, R. L. Rickett (1939). Kinetics of the decomposition of austenite at constant temperature. Transactions
    of the AIME 135, 396-415.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_domains.kinetics import AustinRickettRegressor
    >>> rng, t = np.random.default_rng(0), np.linspace(0.2, 3, 6)
    >>> powers = [(k * t) ** 2 for k in rng.uniform(0.8, 1.3, 8)]
    >>> curves = [(t[:, None], p / (1 + p) + 0.01 * rng.standard_normal(6)) for p in powers]
    >>> round(AustinRickettRegressor().fit(curves).population_.loc["n", "value"])
    2
    """

    constants = {
        "k": Parameter(1.0, lower=0, unit="1/time", meaning="rate"),
        "n": Parameter(2.0, lower=0, meaning="exponent"),
    }
    optional_constants = {"incubation": INCUBATION, "plateau": PLATEAU}

    @staticmethod
    def formula(time: Tensor, k: Tensor, n: Tensor, incubation: Tensor, plateau: Tensor) -> Tensor:
        """Return X."""
        # the power of a late time would overflow; clamped, its share is 1
        power = (begun(k * (time - incubation)) ** n).clamp(max=1e300 if time.dtype == torch.float64 else 1e30)
        return plateau * (power / (1 + power))

    @staticmethod
    def inverse(fraction: Any, k: Any, n: Any, incubation: Any, plateau: Any) -> Any:
        """Return the time at which a fraction is transformed; infinite above the plateau."""
        share = np.asarray(fraction) / plateau
        odds = np.where(share < 1, share / np.where(share < 1, 1 - share, 1.0), np.inf)
        return incubation + odds ** (1 / n) / k

    def guess(self, inputs: Inputs, y: NDArray[Any], tasks: TaskSet) -> dict[str, float]:
        """Read k off the half-times."""
        half = half_time(inputs["time"], y, tasks)
        return {"k": 1 / half, "incubation": 0.1 * half}
