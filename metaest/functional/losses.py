r"""Losses of a batch of ragged tasks: each task's mean over its own rows, padding left out.

Every loss takes predictions and targets with leading shape (tasks, rows) and a mask of that shape, and returns one
number for each task. A task without a row has loss 0 and gradient 0, so that adapting on nothing changes nothing. In
place of ones the mask may hold positive weights of rows, whose sum is the number of the task's rows.

Losses of a regression are objects that also know how targets are scaled for them, and what the network's output stands
for. With the prediction :math:`\hat y`, the output :math:`\eta` and the error :math:`e = y - \hat y` they are

=============== ======================================================================== =======================
squared_error   :math:`e^2`                                                              the mean
huber           :math:`e^2` up to :math:`|e| = \delta`, then                             the mean, less drawn by
                :math:`\delta (2 |e| - \delta)` (Huber, 1964,                            outliers
                :doi:`10.1214/aoms/1177703732`)
poisson         :math:`e^\eta - y \eta` with :math:`\hat y = e^\eta`, the negative       the mean of counts
                log-likelihood of counts up to a constant
quantile        :math:`\max\bigl(q e, (q - 1) e\bigr)` (Koenker and Bassett, 1978,       the q-quantile
                :doi:`10.2307/1913643`)
=============== ======================================================================== =======================
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

__all__ = [
    "REGRESSION_LOSSES",
    "Huber",
    "Poisson",
    "Quantile",
    "RegressionLoss",
    "RowLoss",
    "SquaredError",
    "as_regression_loss",
    "cross_entropy",
    "mean_over_rows",
    "squared_error",
]


def mean_over_rows(per_row: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of each task over its own rows, from losses and a mask of shape (tasks, rows)."""
    return (per_row * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def squared_error(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    r"""Mean squared error of each task, :math:`\frac{1}{n t}\sum_{ij} (\hat y_{ij} - y_{ij})^2`.

    Parameters
    ----------
    prediction, target : Tensor of shape (tasks, rows, targets)
    mask : Tensor of shape (tasks, rows)

    Returns
    -------
    Tensor of shape (tasks,)
    """
    return mean_over_rows((prediction - target).square().mean(dim=-1), mask)


def cross_entropy(logits: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    r"""Mean cross-entropy of each task, :math:`-\frac{1}{n}\sum_i \log \mathrm{softmax}(z_i)_{c_i}`.

    Parameters
    ----------
    logits : Tensor of shape (tasks, rows, classes)
    target : Tensor of shape (tasks, rows, classes)
        1 for the class of a row, 0 for another one of its task, -1 for classes the task does not have.
    mask : Tensor of shape (tasks, rows)

    Returns
    -------
    Tensor of shape (tasks,)
    """
    log_probability = torch.log_softmax(logits.masked_fill(target < 0, -torch.inf), dim=-1)
    of_class = torch.where(target > 0, log_probability, 0.0)
    return mean_over_rows(-of_class.sum(dim=-1), mask)


@dataclass(frozen=True, eq=False)
class RegressionLoss(ABC):
    """A loss of each row, and how targets are prepared for it.

    A subclass defines :meth:`per_row`, and overrides the facts below where their defaults do not hold; plain class
    attributes do. Frozen dataclasses are the same loss where their fields are equal, others are so where they are one
    object. Concrete losses are final. An object is a loss of a batch of tasks, as :func:`squared_error` is.
    """

    @abstractmethod
    def per_row(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every row, the mean over its targets.

        Parameters
        ----------
        prediction, target : Tensor of shape (tasks, rows, targets)
            Outputs of the network, and scaled targets.

        Returns
        -------
        Tensor of shape (tasks, rows)
        """

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
        """Return the mean over the rows of each task, of shape (tasks,)."""
        return mean_over_rows(self.per_row(prediction, target), mask)

    @property
    def name(self) -> str:
        """The name by which messages call it."""
        return type(self).__name__

    @property
    def centred(self) -> bool:
        """Whether the mean is taken off targets before they are scaled."""
        return True

    @property
    def closed_form(self) -> bool:
        """Whether a linear head solved in closed form minimises it."""
        return False

    @property
    def lowest_target(self) -> float:
        """The lowest target, in the user's units, for which the loss is defined."""
        return -math.inf

    def inverse_link(self, output: Tensor) -> Tensor:
        """Return the predicted targets, still scaled, that outputs of the network stand for."""
        return output

    def describe(self) -> str:
        """Return its name and its settings."""
        settings = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self))
        return f"{self.name!r} ({settings})" if settings else repr(self.name)

    def check(self, prediction: Tensor, target: Tensor) -> None:
        """Raise where losses of rows are none that a fit can use.

        Parameters
        ----------
        prediction, target : Tensor of shape (tasks, rows, targets)
            Outputs of the network before the fit, and scaled targets.

        Raises
        ------
        TypeError
            When `per_row` returns something else than a tensor of numbers with a fraction.
        ValueError
            When that has another shape, does not depend on the predictions by operations that torch can
            differentiate, or the loss of a row depends on other rows.
        """
        output = prediction.detach().clone().requires_grad_()
        losses = self.per_row(output * 1, target)
        if not isinstance(losses, Tensor) or not losses.is_floating_point():
            got = losses.dtype if isinstance(losses, Tensor) else type(losses).__name__
            raise TypeError(f"loss: {self.name} returned {got}; a tensor of torch with floats is wanted.")
        if losses.shape != target.shape[:2]:
            raise ValueError(
                f"loss: {self.name} returned shape {tuple(losses.shape)}; one loss for each row, of shape "
                f"{tuple(target.shape[:2])}, is wanted."
            )
        if not losses.requires_grad:
            raise ValueError(
                f"loss: what {self.name} returned does not depend on the predictions by operations that torch can "
                "differentiate; leave out detach(), item(), rounding, comparisons and numpy."
            )
        self._require_finite(losses.detach(), output.detach(), target)
        together, again = losses.detach(), self.per_row(output.detach().clone(), target).detach()
        first = self.per_row(output.detach()[:1, :1].clone(), target[:1, :1]).detach()
        drawn = not torch.equal(together.nan_to_num(), again.nan_to_num())
        if not drawn and not torch.allclose(together[:1, :1], first, rtol=1e-3, atol=1e-6, equal_nan=True):
            raise ValueError(
                f"loss: {self.name} gives a row the loss {float(first):.4g} alone and {float(together[0, 0]):.4g} "
                "among others; the loss of a row must not depend on other rows, which may be of other tasks. A mean "
                "over rows, a maximum or a scale has to be left out or fixed before the fit."
            )

    def check_values(self, prediction: Tensor, target: Tensor) -> None:
        """Raise a ValueError where the loss of a row is not finite, though its prediction and target are.

        Parameters
        ----------
        prediction, target : Tensor of shape (tasks, rows, targets)
            Outputs of the network before the fit, and scaled targets.
        """
        with torch.no_grad():
            self._require_finite(self.per_row(prediction, target), prediction, target)

    def _require_finite(self, losses: Tensor, prediction: Tensor, target: Tensor) -> None:
        """Raise a ValueError at the first row whose loss alone is not finite."""
        defined = prediction.isfinite().all(dim=-1) & target.isfinite().all(dim=-1)
        undefined = torch.nonzero(defined & ~losses.isfinite())
        if len(undefined):
            task, row = undefined[0].tolist()
            outputs, targets = (
                ", ".join(f"{value:.4g}" for value in values[task, row].tolist()) for values in (prediction, target)
            )
            raise ValueError(
                f"loss: {self.name} is {float(losses[task, row]):g} before the fit, at a prediction of {outputs} and a "
                f"target of {targets} (in standardised units); a loss must be finite at every finite prediction."
            )


@dataclass(frozen=True)
class SquaredError(RegressionLoss):
    """The squared error, minimised by the mean."""

    name = "squared_error"
    closed_form = True

    def per_row(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of every row."""
        return (prediction - target).square().mean(dim=-1)


@dataclass(frozen=True)
class Huber(RegressionLoss):
    """The squared error up to a threshold, and from there a loss that grows in a straight line.

    It is twice the loss of the textbooks, so that it is the squared error itself where no error exceeds the threshold.

    Parameters
    ----------
    threshold : float above 0, default=1.35
        In standardised units. At 1.35 standard deviations of the noise the estimate of a mean has 95 % of the
        efficiency of the squared error (Huber, 1981, :doi:`10.1002/0471725250`).
    """

    threshold: float = 1.35

    name = "huber"

    def __post_init__(self) -> None:
        if not 0 < self.threshold < math.inf:
            raise ValueError(f"threshold must be finite and above 0, got {self.threshold}.")

    def per_row(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every row."""
        error = prediction - target
        size = error.abs()
        beyond = self.threshold * (2 * size - self.threshold)
        return torch.where(size <= self.threshold, error.square(), beyond).mean(dim=-1)


@dataclass(frozen=True)
class Poisson(RegressionLoss):
    """The Poisson deviance of counts, up to terms without the prediction; the output is a logarithm.

    Targets are divided by their mean over the fit and not centred, so that an output of zero predicts that mean.
    """

    name = "poisson"
    centred = False
    lowest_target = 0.0

    def per_row(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every row, from logarithms of the predicted means."""
        return (prediction.exp() - target * prediction).mean(dim=-1)

    def inverse_link(self, output: Tensor) -> Tensor:
        """Return the means whose logarithms the outputs are."""
        return output.exp()


@dataclass(frozen=True)
class Quantile(RegressionLoss):
    """The pinball loss, minimised by a quantile.

    Parameters
    ----------
    q : float between 0 and 1, default=0.5
        The share of targets below the prediction; 0.5 for the median.
    """

    q: float = 0.5

    name = "quantile"

    def __post_init__(self) -> None:
        if not 0 < self.q < 1:
            raise ValueError(f"q must lie between 0 and 1, got {self.q}.")

    def per_row(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every row."""
        error = target - prediction
        return torch.maximum(self.q * error, (self.q - 1) * error).mean(dim=-1)


@dataclass(frozen=True)
class RowLoss(RegressionLoss):
    """A loss that is given as a function of predictions and targets.

    Parameters
    ----------
    function : callable
        Predictions and targets of shape (rows, targets), in standardised units -> losses of shape (rows,), by
        operations of torch. Rows of several tasks, and padding, stand below one another: the loss of a row must not
        depend on the others.

    Examples
    --------
    >>> import torch
    >>> from metaest.functional import RowLoss
    >>> loss = RowLoss(lambda prediction, target: (prediction - target).abs().mean(dim=-1))
    >>> loss(torch.zeros(1, 2, 1), torch.tensor([[[1.0], [3.0]]]), torch.ones(1, 2))
    tensor([2.])
    """

    function: Callable[[Tensor, Tensor], Tensor]

    @property
    def name(self) -> str:
        """The name of the function."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def per_row(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return what the function returns for the rows.

        Raises
        ------
        TypeError
            When that is not a tensor.
        ValueError
            When it has another shape than one loss for each row.
        """
        n_tasks, n_rows, n_targets = prediction.shape
        losses = self.function(prediction.reshape(-1, n_targets), target.reshape(-1, n_targets))
        if not isinstance(losses, Tensor):
            raise TypeError(f"loss: {self.name} returned {type(losses).__name__}; a tensor of torch is wanted.")
        if losses.shape != (n_tasks * n_rows,):
            raise ValueError(
                f"loss: {self.name} returned shape {tuple(losses.shape)} for {n_tasks * n_rows} rows of {n_targets} "
                f"target{'s' * (n_targets != 1)}; one loss for each row, of shape ({n_tasks * n_rows},), is wanted "
                "(for losses of each target: their mean over the last axis)."
            )
        return losses.reshape(n_tasks, n_rows)


REGRESSION_LOSSES: dict[str, RegressionLoss] = {
    "squared_error": SquaredError(),
    "huber": Huber(),
    "poisson": Poisson(),
    "quantile": Quantile(),
}


def as_regression_loss(setting: str | RegressionLoss | Callable[[Tensor, Tensor], Tensor]) -> RegressionLoss:
    """Return the loss that a name stands for, an object as it is, and a function as a :class:`RowLoss`.

    Raises
    ------
    ValueError
        When no loss has such a name.
    TypeError
        When it is neither a name, a RegressionLoss nor a function.
    """
    if isinstance(setting, RegressionLoss):
        return setting
    names = ", ".join(map(repr, REGRESSION_LOSSES))
    choices = f"{names}, a RegressionLoss object, or a function of predictions and targets"
    if isinstance(setting, str):
        if setting not in REGRESSION_LOSSES:
            raise ValueError(f"loss must be one of {choices}; got {setting!r}.")
        return REGRESSION_LOSSES[setting]
    if isinstance(setting, type) or not callable(setting):
        got = f"the class {setting.__name__}" if isinstance(setting, type) else type(setting).__name__
        raise TypeError(f"loss must be one of {choices}; got {got}.")
    return RowLoss(setting)
