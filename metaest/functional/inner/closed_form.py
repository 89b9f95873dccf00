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
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metaest.functional.inner.cholesky import factored
from metaest.functional.inner.head import Head
from metaest.functional.inner.solver import InnerSolver
from metaest.functional.losses import mean_over_rows
from metaest.functional.modules.forward import with_statistics
from metaest.functional.modules.head import HEAD, PREFIX
from metaest.functional.types import BatchForward, Episodes, Loss, Params, Rows

__all__ = ["ClosedForm", "LinearHead"]

# names of what is learned beside the network: the mean of the weights, the root of their precision (with the logarithm
# of its diagonal), the logarithm of a ridge's strength, and that of the noise's standard deviation
MEAN = PREFIX + "mean"
ROOT = PREFIX + "root"
STRENGTH = PREFIX + "strength"
NOISE = PREFIX + "noise"
# name of the root of a task's precision among its parameters
PRECISION = PREFIX + "precision"


@dataclass(frozen=True)
class LinearHead(Head):
    """The prior of a linear head, and its posterior given support rows.

    Parameters
    ----------
    bayesian : bool
        Whether mean, precision and noise are learned, by the likelihood of query rows; otherwise the ridge's strength
        alone is, by their squared error.
    n_hidden, n_targets : int
    """

    bayesian: bool
    n_hidden: int
    n_targets: int

    def meta_parameters(self, like: Tensor) -> Params:
        """Return the parameters learned beside the network, at their start: strength 1, mean 0, noise 1."""
        if not self.bayesian:
            return {STRENGTH: like.new_zeros(())}
        size = self.n_hidden + 1
        return {
            MEAN: like.new_zeros(size, self.n_targets),
            ROOT: like.new_zeros(size, size),
            NOISE: like.new_zeros(self.n_targets),
        }

    def start(self, meta: Params) -> Params:
        """Return the head of a task without rows: mean weights, root of their precision, logarithm of the noise."""
        if not self.bayesian:
            strength = meta[STRENGTH]
            root = (0.5 * strength).exp() * torch.eye(self.n_hidden + 1).to(strength)
            mean, noise = strength.new_zeros(len(root), self.n_targets), strength.new_zeros(self.n_targets)
            return {HEAD: mean, PRECISION: root, NOISE: noise}
        # the logarithm of the diagonal is learned, so that it stays positive
        root = torch.tril(meta[ROOT], -1) + torch.diag(torch.diagonal(meta[ROOT]).exp())
        return {HEAD: meta[MEAN], PRECISION: root, NOISE: meta[NOISE]}

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
        # a small system, in double precision: features of far-off rows are large, and their squares larger
        weight = support.mask.sqrt()[..., None]
        phi = (self._features(forward, params, support) * weight).double()
        root = params[PRECISION].double()
        precision = root @ root.mT
        posterior = factored(precision + phi.mT @ phi)
        right = precision @ params[HEAD].double() + phi.mT @ (support.y * weight).double()
        solved = {HEAD: torch.cholesky_solve(right, posterior), PRECISION: posterior}
        return {**params, **{name: value.to(params[name].dtype) for name, value in solved.items()}}

    def variance(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Return the predictive variance of rows, of shape (tasks, rows, targets).

        Without a learned noise it is in units of the noise's variance.
        """
        phi = self._features(forward, params, rows)
        spread = torch.linalg.solve_triangular(params[PRECISION], phi.mT, upper=False).square().sum(dim=1)
        variance: Tensor = (1 + spread)[..., None] * params[NOISE].mul(2).exp()[:, None]
        return variance

    def finalise(self, forward: BatchForward, params: Params, drawn: Sequence[Episodes]) -> Params:
        r"""Return the noise that makes the query rows of these episodes most likely, all else given.

        Since the precision is in units of it, that is known in closed form:
        :math:`\sigma^2` is the mean of :math:`(y - \phi^\top m_n)^2 / (1 + \phi^\top \Lambda_n^{-1} \phi)`.

        Parameters
        ----------
        forward : callable
        params : dict of Tensor, each of shape (tasks, ...)
            As :meth:`condition` takes them.
        drawn : sequence of Episodes
            Each of the same number of tasks.

        Returns
        -------
        dict of Tensor
            Part of the meta-parameters.
        """
        shares, counts = [], []
        for episodes in drawn:
            adapted, query = self.condition(forward, params, episodes.support), episodes.query
            unit = {**adapted, NOISE: torch.zeros_like(adapted[NOISE])}
            share = (forward(adapted, query) - query.y).square() / self.variance(forward, unit, query)
            shares.append((share * query.mask[..., None]).sum(dim=(0, 1)))
            counts.append(query.mask.sum())
        mean = torch.stack(shares).sum(dim=0) / torch.stack(counts).sum()
        return {NOISE: 0.5 * mean.clamp(min=torch.finfo(mean.dtype).tiny).log()}

    def answers(self, forward: BatchForward, params: Params, episodes: Episodes) -> tuple[Tensor, Tensor | None]:
        r"""Return predictions of each task's query rows given its support, and their variance where it is learned.

        With fewer support rows than features the system is that of the rows: with :math:`\Lambda = R R^\top` and
        :math:`V = R^{-1} \Phi^\top`, :math:`v = R^{-1} \phi(x)`,

        .. math:: m_n^\top \phi(x) = m^\top \phi(x) + v^\top V (I + V^\top V)^{-1} (y - \Phi m), \qquad
                  \phi(x)^\top \Lambda_n^{-1} \phi(x) = v^\top v - v^\top V (I + V^\top V)^{-1} V^\top v.

        Parameters
        ----------
        forward : callable
        params : dict of Tensor, each of shape (tasks, ...)
            As :meth:`condition` takes them.
        episodes : Episodes

        Returns
        -------
        Tensor of shape (tasks, rows, targets)
        Tensor of shape (tasks, rows, targets) or None
        """
        support, query = episodes
        n_support = support.mask.shape[1]
        if n_support > self.n_hidden:
            adapted = self.condition(forward, params, support)
            return forward(adapted, query), self.variance(forward, adapted, query) if self.bayesian else None
        params = with_statistics(forward, params, support)
        weight = support.mask.sqrt()[..., None]
        rows = [self._features(forward, params, support) * weight, self._features(forward, params, query)]
        phi, root, mean = torch.cat(rows, dim=1).double(), params[PRECISION].double(), params[HEAD].double()
        if self.bayesian:
            white = torch.linalg.solve_triangular(root, phi.mT, upper=False)
        else:
            white = phi.mT * torch.diagonal(root, dim1=-2, dim2=-1).reciprocal()[..., None]
        given, asked = white[..., :n_support], white[..., n_support:]
        factor = factored(given.mT @ given + torch.eye(n_support).to(given))
        explained = torch.linalg.solve_triangular(factor, given.mT @ asked, upper=False)
        before = phi @ mean
        error = (support.y * weight).double() - before[:, :n_support]
        moved = explained.mT @ torch.linalg.solve_triangular(factor, error, upper=False)
        prediction = (before[:, n_support:] + moved).to(query.y.dtype)
        if not self.bayesian:
            return prediction, None
        whole = asked.square().sum(dim=1)
        spread = whole - explained.square().sum(dim=1)
        # the rounding of a large difference may be all that is left of it
        lost = 1 + spread < 10 * white.shape[1] * torch.finfo(whole.dtype).eps * whole
        spread = torch.where(lost, torch.nan, spread)
        return prediction, (1 + spread).to(query.y.dtype)[..., None] * params[NOISE].mul(2).exp()[:, None]

    def losses(self, forward: BatchForward, params: Params, episodes: Episodes) -> Tensor:
        """Return the loss of each task's query rows: squared error, or negative log-likelihood a row."""
        query = episodes.query
        prediction, variance = self.answers(forward, params, episodes)
        error = (prediction - query.y).square()
        if variance is not None:
            error = 0.5 * (error / variance + variance.log() + math.log(2 * math.pi))
        return mean_over_rows(error.mean(dim=-1), query.mask)

    def _features(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Return the features and the constant one, as predictions of unit weights."""
        unit = torch.eye(self.n_hidden + 1).to(params[HEAD]).expand(len(rows.X), -1, -1)
        return forward({**params, HEAD: unit}, rows)


@dataclass(frozen=True)
class ClosedForm(InnerSolver):
    """An inner solver that conditions the head and leaves the network.

    Parameters
    ----------
    head : Head
    steps : {0, 1}, default=1
        With 0 the head stays as it is, too: the answer without support rows.
    """

    head: Head
    steps: int = 1

    def solve(
        self, forward: BatchForward, loss: Loss, params: Params, support: Rows, *, differentiable: bool = False
    ) -> Params:
        """Adapt a batch of tasks, as :meth:`InnerSolver.solve` says; differentiable in any case."""
        return self.head.condition(forward, params, support) if self.steps else params

    def describe(self) -> str:
        """Return how it adapts, in words."""
        return "in closed form"
