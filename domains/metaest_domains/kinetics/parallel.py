"""Two parallel JMAK processes describe primary and secondary crystallisation."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest import Parameter, TaskSet
from metaest_domains.kinetics.catalogue import Inputs, KineticRegressor
from metaest_domains.kinetics.guesses import half_time
from metaest_domains.kinetics.rates import begun

__all__ = ["ParallelJMAKRegressor"]

# bisections of ln t: more than float64 has bits, so that the interval shrinks to rounding
_HALVINGS = 100


class ParallelJMAKRegressor(KineticRegressor):
    r"""Parallel primary and secondary crystallisation at constant temperature.

    .. math:: X(t) = w \left(1 - e^{-(k t)^n}\right) + (1 - w) \left(1 - e^{-(k_2 t)^{n_2}}\right)

    The input is ``time``. Many polymers crystallise on slowly after their S-shaped curve. A single JMAK curve bends to
    fit that slow part; two processes leave the S-shape as it is.

    =============== ========= ======== ==================================================
    constant        unit      bounds   meaning
    =============== ========= ======== ==================================================
    ``k``           1/time    above 0  rate of the primary process
    ``n``                     above 0  its Avrami exponent
    ``w``                     0 to 1   its share
    ``k_2``         1/time    above 0  rate of the secondary process
    ``n_2``                   above 0  its exponent; optional, otherwise 1
    =============== ========= ======== ==================================================

    The parameters are those of :class:`KineticRegressor`.

    References
    ----------
    C. N. Velisaris, J. C. Seferis (1986). Crystallization kinetics of polyetheretherketone (PEEK) matrices. Polymer
    Engineering and Science 26, 1574-1581.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_domains.kinetics import ParallelJMAKRegressor
    >>> rng, t = np.random.default_rng(0), np.linspace(0.1, 8, 25)
    >>> def curve(w):
    ...     X = w * (1 - np.exp(-(t**2))) + (1 - w) * (1 - np.exp(-0.2 * t))
    ...     return t[:, None], X + 0.002 * rng.standard_normal(25)
    >>> model = ParallelJMAKRegressor(random=["w"]).fit([curve(w) for w in rng.uniform(0.7, 0.9, 8)])
    >>> float(model.population_.loc["w", "value"].round(1))
    0.8
    """

    constants = {
        "k": Parameter(1.0, lower=0, unit="1/time", meaning="rate of the primary process"),
        "n": Parameter(2.0, lower=0, meaning="its Avrami exponent"),
        "w": Parameter(0.8, lower=0, upper=1, meaning="its share"),
        "k_2": Parameter(0.2, lower=0, unit="1/time", meaning="rate of the secondary process"),
    }
    optional_constants = {"n_2": (1.0, Parameter(1.0, lower=0, meaning="exponent of the secondary process"))}

    @staticmethod
    def formula(time: Tensor, k: Tensor, n: Tensor, w: Tensor, k_2: Tensor, n_2: Tensor) -> Tensor:
        """Return X."""
        return w * (1 - torch.exp(-(begun(k * time) ** n))) + (1 - w) * (1 - torch.exp(-(begun(k_2 * time) ** n_2)))

    @staticmethod
    def inverse(fraction: Any, k: Any, n: Any, w: Any, k_2: Any, n_2: Any) -> Any:
        """Return the time at which a fraction is transformed, by bisection."""
        left = np.log(-np.log1p(-fraction))
        # the time lies between those of purely primary and purely secondary crystallisation
        primary = left / n - np.log(k)
        secondary = left / n_2 - np.log(k_2)
        low = np.minimum(primary, secondary)
        high = np.maximum(primary, secondary)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            t = np.exp(middle)
            X = w * -np.expm1(-((k * t) ** n)) + (1 - w) * -np.expm1(-((k_2 * t) ** n_2))
            low = np.where(fraction > X, middle, low)
            high = np.where(fraction > X, high, middle)
        return np.exp(0.5 * (low + high))

    def guess(self, inputs: Inputs, y: NDArray[Any], tasks: TaskSet) -> dict[str, float]:
        """Read k off the half-times, and take the secondary process as several times slower."""
        half = half_time(inputs["time"], y, tasks)
        return {"k": float(0.9 / half), "k_2": float(0.2 / half)}
