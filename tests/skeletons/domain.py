"""An estimator of a domain to start from: an equation whose columns, constants and first guesses are named."""

import numpy as np
import torch

from metaest import Parameter
from metaest_domains.kinetics import KineticRegressor


class ParabolicRegressor(KineticRegressor):
    r"""Growth limited by diffusion, :math:`x = k \sqrt{t}`.

    The input is ``time``; the target is a thickness.
    """

    target = "thickness"
    constants = {"k": Parameter(1.0, lower=0, unit="thickness/time^0.5", meaning="rate constant")}

    @staticmethod
    def formula(time, k):
        return k * torch.sqrt(time)

    def guess(self, inputs, y, tasks):
        """Read the rate off the largest thickness."""
        last = int(np.argmax(y))
        return {"k": float(y[last] / np.sqrt(inputs["time"][last]))}
