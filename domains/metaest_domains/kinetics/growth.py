"""Logistic growth of a size, a density or a mass."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metaest import Parameter, TaskSet
from metaest_domains.kinetics.catalogue import Inputs, KineticRegressor
from metaest_domains.kinetics.guesses import half_time

__all__ = ["LogisticGrowthRegressor"]


class LogisticGrowthRegressor(KineticRegressor):
    r"""Logistic growth.

    .. math:: y(t) = \frac{K}{1 + e^{-r (t - t_m)}}

    The input is ``time``; the target is a size, a density or a mass.

    =============== ========= ======== ==================================================
    constant        unit      bounds   meaning
    =============== ========= ======== ==================================================
    ``K``           size      above 0  final size
    ``r``           1/time    above 0  rate of growth while small
    ``midpoint``    time               time of half the final size
    =============== ========= ======== ==================================================

    The parameters are those of :class:`KineticRegressor`.

    References
    ----------
    P. F. Verhulst (1838); in this form M. H. Zwietering and others (1990). Modeling of the bacterial growth curve.
    :doi:`10.1128/aem.56.6.1875-1881.1990`

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_domains.kinetics import LogisticGrowthRegressor
    >>> rng, t = np.random.default_rng(0), np.linspace(0, 10, 8)
    >>> cultures = [(t[:, None], K / (1 + np.exp(4 - t)) + 0.02 * rng.standard_normal(8)) for K in rng.uniform(2, 4, 8)]
    >>> round(LogisticGrowthRegressor().fit(cultures).population_.loc["midpoint", "value"])
    4
    """

    target = "size"
    constants = {
        "K": Parameter(1.0, lower=0, unit="size", meaning="final size"),
        "r": Parameter(1.0, lower=0, unit="1/time", meaning="rate of growth while small"),
        "midpoint": Parameter(1.0, unit="time", meaning="time of half the final size"),
    }

    @staticmethod
    def formula(time: Tensor, K: Tensor, r: Tensor, midpoint: Tensor) -> Tensor:
        """Return the size."""
        return K * torch.sigmoid(r * (time - midpoint))

    @staticmethod
    def inverse(size: Any, K: Any, r: Any, midpoint: Any) -> Any:
        """Return the time at which a size is reached; infinite above K."""
        share = np.asarray(size) / K
        odds = np.where(share < 1, share / np.where(share < 1, 1 - share, 1.0), np.inf)
        return midpoint + np.log(odds) / r

    def guess(self, inputs: Inputs, y: NDArray[Any], tasks: TaskSet) -> dict[str, float]:
        """Read size and midpoint off the data."""
        size = float(y.max())
        half = half_time(inputs["time"], np.asarray(y / (size or 1.0)), tasks)
        return {"K": 1.1 * size, "r": 4 / half, "midpoint": half}
