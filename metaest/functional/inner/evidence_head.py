r"""A linear head whose prior is learned by the evidence of whole tasks.

A network gives features; the head sees :math:`\phi(x) = (x, f(x), 1)`, with the columns themselves beside them. What
tells tasks apart is r numbers u, which move the weights of all targets k around their means,

.. math:: w_k = m_k + A_k u, \quad u \sim \mathcal N(0, I_r), \qquad
          y_k = \phi(x)^\top w_k + \varepsilon_k, \quad \varepsilon_k \sim \mathcal N(0, \sigma_k^2),

so that the weights of a target have covariance :math:`A_k A_k^\top`. Means, loadings A, noise and network are learned
by the density that they give all n rows of a task together, with u integrated out: with the rows of all targets below
each other, :math:`e = (y_k - \Phi m_k) / \sigma_k` and :math:`B = \Phi A_k / \sigma_k`,

.. math:: -\log p(y) = \tfrac12 \Bigl(|e - B \hat u|^2 + |\hat u|^2 + \log |M| + n \sum_k \log 2 \pi \sigma_k^2\Bigr),
          \qquad M = I_r + B^\top B, \quad \hat u = M^{-1} B^\top e .

The system is that of the rank also where a task has fewer rows: it is small in either case.

A density of all rows is the product of those of each row given the rows before it, in whatever order
(:math:`p(y) = \prod_i p(y_i \mid y_1, \dots, y_{i-1})`): support of every size counts at once, and none has to be
chosen. Given support rows u is normal around :math:`\hat u` with covariance :math:`M^{-1} = L^{-\top} L^{-1}`, which is
the same model with means :math:`m_k + A_k \hat u` and loadings :math:`A_k L^{-\top}`.

This is adaptive Bayesian linear regression (Perrone, Jenatton, Seeger and Archambeau, 2018,
:doi:`10.48550/arXiv.1712.02902`) with a learned covariance of low rank, and deep kernel transfer (Patacchiola and
others, 2020, :doi:`10.48550/arXiv.1910.05199`) with a linear kernel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from metaest.functional.inner.cholesky import factored
from metaest.functional.inner.head import Head
from metaest.functional.modules.forward import at_shared, with_statistics
from metaest.functional.modules.head import HEAD, PREFIX
from metaest.functional.types import BatchForward, Episodes, Params, Rows

__all__ = ["EvidenceHead"]

# names of what is learned beside the network: the mean of the weights, their loadings, and the logarithm of the
# noise's standard deviation
MEAN = PREFIX + "mean"
LOADING = PREFIX + "loading"
NOISE = PREFIX + "noise"
# name of the loadings of a task among its parameters
SPREAD = PREFIX + "spread"
# what is learned starts at this standard deviation of the noise, in units of the standardised targets
FIRST_NOISE = 0.5


@dataclass(frozen=True)
class EvidenceHead(Head):
    """The prior of a linear head with a covariance of low rank, and its posterior given support rows.

    Parameters
    ----------
    n_features : int
        What the network gives the head, without the constant one.
    n_targets : int
    rank : int
        How many numbers tell tasks apart.

    References
    ----------
    .. [1] V. Perrone, R. Jenatton, M. Seeger, C. Archambeau (2018). Scalable hyperparameter transfer learning.
       NeurIPS. :doi:`10.48550/arXiv.1712.02902`

    Examples
    --------
    Lines through the origin of normal slopes: two rows of the first tell its slope, to the noise of 1.

    >>> import torch
    >>> from metaest.functional import EvidenceHead, HeadForward, Rows, mapped
    >>> head = EvidenceHead(n_features=1, n_targets=1, rank=1)
    >>> forward = mapped(HeadForward(torch.nn.Identity(), 1, 1))
    >>> loading, noise = torch.tensor([[3.0], [0.0]]), torch.zeros(1)
    >>> prior = head.start({"head:mean": torch.zeros(2, 1), "head:loading": loading, "head:noise": noise})
    >>> start = {name: value[None] for name, value in prior.items()}
    >>> X = torch.tensor([[[1.0], [2.0]]])
    >>> after = head.condition(forward, start, Rows(X, 2 * X, torch.ones(1, 2)))
    >>> new = Rows(torch.ones(1, 1, 1), torch.ones(1, 1, 1), torch.ones(1, 1))
    >>> round(float(forward(after, new)), 3), round(float(head.variance(forward, after, new)), 3)
    (1.957, 1.196)
    """

    n_features: int
    n_targets: int
    rank: int
    bayesian = True
    whole_tasks = True

    @property
    def n_directions(self) -> int:
        """Directions in which tasks are supposed to differ."""
        return self.rank

    def meta_parameters(self, like: Tensor) -> Params:
        """Return the parameters learned beside the network, at their start: mean 0, orthogonal loadings."""
        size = self.n_features + 1
        loading = _cosines(size * self.n_targets, self.rank).reshape(size, self.n_targets * self.rank)
        return {
            MEAN: like.new_zeros(size, self.n_targets),
            LOADING: loading.to(like, copy=True),
            NOISE: like.new_full((self.n_targets,), math.log(FIRST_NOISE)),
        }

    def start(self, meta: Params) -> Params:
        """Return the head of a task without rows: mean weights, loadings, logarithm of the noise."""
        return {HEAD: meta[MEAN], SPREAD: meta[LOADING], NOISE: meta[NOISE]}

    def condition(self, forward: BatchForward, params: Params, support: Rows) -> Params:
        """Return parameters whose head is the posterior given the support rows of every task.

        Parameters
        ----------
        forward : callable
            Predictions of a batch of tasks by a :class:`~metaest.functional.HeadForward`.
        params : dict of Tensor, each of shape (tasks, ...)
            Parameters of network and head.
        support : Rows

        Returns
        -------
        dict of Tensor, each of shape (tasks, ...)
        """
        params = with_statistics(forward, params, support)
        given, error = self._scaled(forward(self._both(params), support), params, support)
        factor, at = _most_likely(given, error)
        loading = params[SPREAD].double()
        parts = self._by_target(loading)
        mean = params[HEAD].double() + (parts @ at[:, None]).squeeze(-1)
        # rows of the loadings times the inverse of the factor's transpose
        spread = torch.linalg.solve_triangular(factor, parts.flatten(1, 2).mT, upper=False).mT.reshape(loading.shape)
        return {**params, HEAD: mean.to(params[HEAD].dtype), SPREAD: spread.to(params[SPREAD].dtype)}

    def variance(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Return the predictive variance of rows, of shape (tasks, rows, targets)."""
        spread = self._by_target(forward({**params, HEAD: params[SPREAD]}, rows))
        variance: Tensor = spread.square().sum(dim=-1) + params[NOISE].mul(2).exp()[:, None]
        return variance

    def losses(self, forward: BatchForward, params: Params, episodes: Episodes) -> Tensor:
        """Return the negative logarithm of the density of all rows of each task, support and query, divided by n.

        Parameters
        ----------
        forward : callable
        params : dict of Tensor, each of shape (1, ...)
            Parameters of network and head, which tasks share.
        episodes : Episodes

        Returns
        -------
        Tensor of shape (tasks,)
        """
        rows = Rows(*(torch.cat(parts, dim=1) for parts in zip(*episodes, strict=True)))
        given, error = self._scaled(at_shared(forward, self._both(params), rows), params, rows)
        factor, at = _most_likely(given, error)
        left = error - given @ at
        n_rows = rows.mask.sum(dim=1)
        volume = 2 * torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(dim=-1)
        squares = left.square().sum(dim=(1, 2)) + at.square().sum(dim=(1, 2))
        density = (math.log(2 * math.pi) + 2 * params[NOISE]).sum(dim=-1)
        loss: Tensor = 0.5 * (((squares + volume) / n_rows.clamp(min=1)).to(density.dtype) + density)
        return loss

    def finalise(self, forward: BatchForward, params: Params, drawn: Sequence[Episodes]) -> Params:
        """Return no parameters: all are learned by the loss."""
        return {}

    def _by_target(self, loadings: Tensor) -> Tensor:
        """Return loadings of shape (..., targets, rank)."""
        return loadings.reshape(*loadings.shape[:-1], self.n_targets, -1)

    def _both(self, params: Params) -> Params:
        """Return parameters that predict by means and by loadings at once: nothing else is wanted of the features."""
        return {**params, HEAD: torch.cat([params[HEAD], params[SPREAD]], dim=-1)}

    def _scaled(self, outputs: Tensor, params: Params, rows: Rows) -> tuple[Tensor, Tensor]:
        """Return B and e, in units of the noise: rows of all targets one after the other, zero for padding.

        They are in double precision, and so are the systems, which are small: products of far-off rows with loadings
        are large, and their squares larger.

        Returns
        -------
        Tensor of shape (tasks, rows * targets, rank)
        Tensor of shape (tasks, rows * targets, 1)
        """
        scale = rows.mask[..., None].double() * params[NOISE].double().neg().exp()[:, None]
        error = (rows.y.double() - outputs[..., : self.n_targets].double()) * scale
        loadings = self._by_target(outputs[..., self.n_targets :].double()) * scale[..., None]
        return loadings.flatten(1, 2), error.flatten(1, 2)[..., None]


def _most_likely(given: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factor of M, of shape (tasks, rank, rank), and the most likely u, of shape (tasks, rank, 1)."""
    factor = factored(given.mT @ given + torch.eye(given.shape[-1]).to(given))
    return factor, torch.cholesky_solve(given.mT @ error, factor)


@lru_cache(maxsize=32)
def _cosines(n_rows: int, n_columns: int) -> Tensor:
    """Return orthogonal columns of mean square 1 / n_rows: cosines of rising frequency, so that none is drawn."""
    places = torch.arange(n_rows, dtype=torch.float64)[:, None] + 0.5
    columns = torch.cos(math.pi / n_rows * places * torch.arange(n_columns, dtype=torch.float64)) * math.sqrt(
        2 / n_rows
    )
    columns[:, 0] /= math.sqrt(2)
    return columns
