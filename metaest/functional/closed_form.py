r"""A linear head solved in closed form on learned features.

A network gives features :math:`\phi(x)`, with a one among them for the intercept; the weights of a task are normal
around a mean, and rows scatter around their line with the same precision matrix in units of the noise,

.. math:: w \sim \mathcal N(m, \sigma^2 \Lambda^{-1}), \qquad y = \phi(x)^\top w + \varepsilon, \quad
          \varepsilon \sim \mathcal N(0, \sigma^2).

Given support rows the weights are normal again, with

.. math:: \Lambda_n = \Lambda + \Phi^\top \Phi, \qquad m_n = \Lambda_n^{-1} (\Lambda m + \Phi^\top y), \qquad
          \operatorname{var} y = \sigma^2 \bigl(1 + \phi(x)^\top \Lambda_n^{-1} \phi(x)\bigr).

With :math:`m = 0` and :math:`\Lambda = \lambda I` the mean is ridge regression (R2D2: Bertinetto, Henriques, Torr and
Vedaldi, 2019, arXiv:1805.08136); with m, a full precision and the noise learned by the likelihood of query rows it is
ALPaCA (Harrison, Sharma and Pavone, 2018, arXiv:1807.08912).
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from metaest.functional.types import BatchForward, Episodes, Params, Rows

__all__ = ["HeadPosterior", "LinearHead"]

MEAN, ROOT, STRENGTH, NOISE = "head:mean", "head:root", "head:strength", "head:noise"


class HeadPosterior(NamedTuple):
    """Weights of the head of each task.

    Attributes
    ----------
    mean : Tensor of shape (tasks, features, targets)
    root : Tensor of shape (tasks, features, features)
        Lower triangle whose product with its transpose is the precision, in units of the noise.
    """

    mean: Tensor
    root: Tensor


@dataclass(frozen=True)
class LinearHead:
    """The inner solver of a linear head.

    Parameters
    ----------
    bayesian : bool
        Whether mean, precision and noise are learned, by the likelihood of query rows; otherwise the ridge's strength
        alone is, by their squared error.
    """

    bayesian: bool

    def meta_parameters(self, n_features: int, n_targets: int, like: Tensor) -> Params:
        """Return what is learned beside the network, at its start: strength 1, mean 0, noise 1."""
        if not self.bayesian:
            return {STRENGTH: like.new_zeros(())}
        size = n_features + 1
        return {
            MEAN: like.new_zeros(size, n_targets),
            ROOT: like.new_zeros(size, size),
            NOISE: like.new_zeros(n_targets),
        }

    def prior(self, meta: Params, n_features: int, n_targets: int) -> tuple[Tensor, Tensor]:
        """Return mean (features, targets) and root (features, features) of the precision of the weights.

        The logarithm of its diagonal is learned, so that it stays positive.
        """
        size = n_features + 1
        if not self.bayesian:
            strength = meta[STRENGTH]
            return strength.new_zeros(size, n_targets), (0.5 * strength).exp() * torch.eye(size).to(strength)
        root = meta[ROOT]
        return meta[MEAN], torch.tril(root, -1) + torch.diag(torch.diagonal(root).exp())

    def solve(self, features: BatchForward, network: Params, meta: Params, support: Rows) -> HeadPosterior:
        """Condition the head of every task on its support rows.

        Parameters
        ----------
        features : callable
            Features of a batch of tasks, of shape (tasks, rows, features).
        network : dict of Tensor, each of shape (tasks, ...)
        meta : dict of Tensor
            Of the head, without a task axis.
        support : Rows

        Returns
        -------
        HeadPosterior
        """
        phi = _with_one(features(network, support)) * support.mask[..., None]
        mean, root = self.prior(meta, phi.shape[-1] - 1, support.y.shape[-1])
        precision = root @ root.T
        posterior = torch.linalg.cholesky(precision + phi.mT @ phi)
        right = precision @ mean + phi.mT @ (support.y * support.mask[..., None])
        return HeadPosterior(torch.cholesky_solve(right, posterior), posterior)

    def predict(self, features: BatchForward, network: Params, meta: Params, head: HeadPosterior, rows: Rows) -> Tensor:
        """Return mean and variance of rows, each of shape (tasks, rows, targets), stacked in front.

        Without a learned noise the variance is in units of it.
        """
        phi = _with_one(features(network, rows))
        spread = torch.linalg.solve_triangular(head.root, phi.mT, upper=False).square().sum(dim=1)
        noise = meta[NOISE].mul(2).exp() if self.bayesian else phi.new_ones(rows.y.shape[-1])
        return torch.stack([phi @ head.mean, (1 + spread)[..., None] * noise])

    def losses(self, features: BatchForward, network: Params, meta: Params, episodes: Episodes) -> Tensor:
        """Return the loss of each task's query rows: squared error, or negative log-likelihood a row."""
        head = self.solve(features, network, meta, episodes.support)
        query = episodes.query
        mean, variance = self.predict(features, network, meta, head, query)
        error = (mean - query.y).square()
        if self.bayesian:
            error = 0.5 * (error / variance + variance.log() + math.log(2 * math.pi))
        losses: Tensor = (error.mean(dim=-1) * query.mask).sum(dim=1) / query.mask.sum(dim=1).clamp(min=1)
        return losses


def _with_one(phi: Tensor) -> Tensor:
    return torch.cat([phi, phi.new_ones(*phi.shape[:-1], 1)], dim=-1)
