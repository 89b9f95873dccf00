"""Conversion of first and of nth order with an Arrhenius rate, as thermogravimetry under a temperature program sees."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metaest import Parameter
from metaest_domains.kinetics.nonisothermal import AlongHistory
from metaest_domains.kinetics.rates import arrhenius

__all__ = ["FirstOrderConversionRegressor", "NthOrderConversionRegressor"]


class FirstOrderConversionRegressor(AlongHistory):
    r"""Conversion of first order along a temperature history.

    .. math:: \frac{d\alpha}{dt} = k(T) (1 - \alpha), \qquad \alpha = 1 - e^{-\theta}, \qquad
              \theta = \int_0^t k_\mathrm{ref}
              \exp\left(-\frac{E}{R}\left(\frac1{T(s)} - \frac1{T_\mathrm{ref}}\right)\right) ds

    =============== ========= ======== ==================================================
    constant        unit      bounds   meaning
    =============== ========= ======== ==================================================
    ``k_ref``       1/time    above 0  rate at the reference temperature
    ``E``           kJ/mol    above 0  activation energy
    ``reference``   K                  held: where the training curves are half-way
    =============== ========= ======== ==================================================

    The parameters are those of :class:`AlongHistory`.

    References
    ----------
    S. Vyazovkin and others (2011). ICTAC kinetics committee recommendations for performing kinetic computations on
    thermal analysis data. :doi:`10.1016/j.tca.2011.03.034`

    Examples
    --------
    >>> import numpy as np
    >>> from metaest_domains.kinetics import FirstOrderConversionRegressor
    >>> rng, t = np.random.default_rng(0), np.linspace(0, 3000, 12)  # s, heated from 400 K at 0.1 K/s
    >>> def run(E):
    ...     s = np.linspace(0, t, 4000)
    ...     k = 2e-3 * np.exp(-E / 8.314e-3 * (1 / (400 + 0.1 * s) - 1 / 550))
    ...     a = 1 - np.exp(-np.trapezoid(k, s, axis=0))
    ...     return np.column_stack([t, 0 * t + 400, 0 * t + 0.1]), a + 0.01 * rng.standard_normal(12)
    >>> model = FirstOrderConversionRegressor().fit([run(E) for E in rng.normal(90, 8, 10)])
    >>> bool(abs(model.population_.loc["E", "value"] - 90) < 10)
    True
    """

    constants = {
        "k_ref": Parameter(1.0, lower=0, unit="1/time", meaning="rate at the reference temperature"),
        "E": Parameter(150.0, lower=0, unit="kJ/mol", meaning="activation energy"),
    }

    @staticmethod
    def shape(theta: Tensor) -> Tensor:
        """Return the conversion after a thermal time."""
        return 1 - torch.exp(-theta)

    @staticmethod
    def inverse(fraction: Any, temperature: Any, k_ref: Any, E: Any, reference: float) -> Any:
        """Return the time at which a conversion is reached at a constant temperature."""
        return -np.log1p(-fraction) / arrhenius(temperature, k_ref, E, reference)


class NthOrderConversionRegressor(AlongHistory):
    r"""Conversion of order n along a temperature history.

    .. math:: \frac{d\alpha}{dt} = k(T) (1 - \alpha)^n, \qquad
              \alpha = 1 - \left(1 + (n - 1) \theta\right)^{1 / (1 - n)}

    with :math:`\theta` as in :class:`FirstOrderConversionRegressor`. Below order one conversion is complete after a
    finite time.

    =============== ========= ======== ==================================================
    constant        unit      bounds   meaning
    =============== ========= ======== ==================================================
    ``k_ref``       1/time    above 0  rate at the reference temperature
    ``E``           kJ/mol    above 0  activation energy
    ``order``                 above 0  n
    ``reference``   K                  held: where the training curves are half-way
    =============== ========= ======== ==================================================

    The parameters are those of :class:`AlongHistory`.

    References
    ----------
    S. Vyazovkin and others (2011). ICTAC kinetics committee recommendations for performing kinetic computations on
    thermal analysis data. :doi:`10.1016/j.tca.2011.03.034`

    Examples
    --------
    >>> from metaest_domains.kinetics import NthOrderConversionRegressor
    >>> NthOrderConversionRegressor(random=["k_ref"], fixed={"order": 2.0})
    NthOrderConversionRegressor(fixed={'order': 2.0}, random=['k_ref'])
    """

    constants = {
        **FirstOrderConversionRegressor.constants,
        "order": Parameter(1.2, lower=0, meaning="order of reaction"),
    }

    @staticmethod
    def shape(theta: Tensor, order: Tensor) -> Tensor:
        """Return the conversion after a thermal time."""
        away = torch.as_tensor(order, dtype=theta.dtype) - 1
        near = away.abs() < 1e-5
        safe = torch.where(near, 1e-5, away)
        inside = (safe * theta).clamp(min=-1 + 1e-12)
        # log(1 + a x) / a, by its first terms where a is nearly 0; elsewhere the square could overflow
        small = torch.where(near, theta, 0.0)
        exponent = torch.where(near, small - 0.5 * away * small**2, torch.log1p(inside) / safe)
        return 1 - torch.exp(-exponent)

    @staticmethod
    def inverse(fraction: Any, temperature: Any, k_ref: Any, E: Any, order: Any, reference: float) -> Any:
        """Return the time at which a conversion is reached at a constant temperature."""
        left = -np.log1p(-fraction)
        away = np.asarray(order) - 1
        near = np.abs(away) < 1e-5
        safe = np.where(near, 1.0, away)
        theta = np.where(near, left * (1 + 0.5 * away * left), np.expm1(safe * left) / safe)
        return theta / arrhenius(temperature, k_ref, E, reference)
