"""Michaelis-Menten kinetics of enzymes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from metaest import Parameter, TaskSet
from metaest_domains.kinetics.catalogue import Inputs, KineticRegressor

__all__ = ["MichaelisMentenRegressor"]


class MichaelisMentenRegressor(KineticRegressor):
    r"""Initial rate of an enzyme reaction.

    .. math:: v = \frac{V_\mathrm{max}\, S}{K_m + S}

    The input is the ``concentration`` of the substrate; the target is the rate.

    =============== ============== ======== =============================================
    constant        unit           bounds   meaning
    =============== ============== ======== =============================================
    ``Vmax``        rate           above 0  rate at saturation
    ``Km``          concentration  above 0  concentration at half of Vmax
    =============== ============== ======== =============================================

    The parameters are those of :class:`KineticRegressor`.

    References
    ----------
    L. Michaelis, M. L. Menten (1913), translated by K. A. Johnson, R. S. Goody (2011). :doi:`10.1021/bi201284u`

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_domains.kinetics import MichaelisMentenRegressor
    >>> rng, S = np.random.default_rng(0), np.linspace(0.1, 4, 6)
    >>> enzymes = [(S[:, None], v * S / (0.5 + S) + 0.02 * rng.standard_normal(6)) for v in rng.uniform(2, 4, 8)]
    >>> float(MichaelisMentenRegressor().fit(enzymes).population_.loc["Km", "value"].round(1))
    0.5
    """

    inputs = ("concentration",)
    target = "rate"
    constants = {
        "Vmax": Parameter(1.0, lower=0, unit="rate", meaning="rate at saturation"),
        "Km": Parameter(1.0, lower=0, unit="concentration", meaning="concentration at half of Vmax"),
    }

    @staticmethod
    def formula(concentration: Tensor, Vmax: Tensor, Km: Tensor) -> Tensor:
        """Return the rate."""
        return Vmax * concentration / (Km + concentration)

    def guess(self, inputs: Inputs, y: NDArray[Any], tasks: TaskSet) -> dict[str, float]:
        """Take 1.2 times the greatest rate, and the median concentration."""
        return {"Vmax": 1.2 * float(y.max()), "Km": float(np.median(inputs["concentration"]))}
