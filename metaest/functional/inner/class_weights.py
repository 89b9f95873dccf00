r"""Weights of classes in a loss, by how many rows each has: :math:`w_c \propto e^{b_c} n_c^{-\gamma}`.

With :math:`\gamma = 1` every class counts the same, with 0 every row; both :math:`\gamma` and b may be learned.
"""

from torch import Tensor

from metaest.functional.types import Rows

__all__ = ["weigh_classes"]


def weigh_classes(rows: Rows, exponent: float | Tensor, log_weights: Tensor | None = None) -> Rows:
    """Return rows whose mask holds the weights of their classes, which sum to the number of a task's rows.

    Parameters
    ----------
    rows : Rows
        With y of shape (tasks, rows, classes): 1 for the class of a row, 0 for another one, -1 for none of the task's.
    exponent : float or Tensor
        The power gamma: a row weighs its class's number of rows to the power of minus gamma.
    log_weights : Tensor of shape (classes,), optional
        Logarithms b of further weights of the classes.

    Returns
    -------
    Rows
    """
    indicators = rows.y.clamp(min=0) * rows.mask[..., None]
    counts = indicators.sum(dim=1, keepdim=True).clamp(min=1)
    logs = -exponent * counts.log()
    if log_weights is not None:
        logs = logs + log_weights
    weights = (indicators * logs.exp()).sum(dim=-1)
    total = weights.sum(dim=1, keepdim=True)
    n_rows = rows.mask.sum(dim=1, keepdim=True)
    return rows._replace(mask=weights * n_rows / total.clamp(min=1e-30))
