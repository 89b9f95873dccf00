"""MAMLPolicy: actions meta-learned from many tasks in order of time, and adapted to the next from a short look."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import nn

from metaest.estimators.arguments import POSITIVE, POSITIVE_OR_ZERO, Whole
from metaest.estimators.columns import Columns
from metaest.estimators.inputs import as_tasks
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adapted_policy import AdaptedPolicy, as_outcomes, outcome_rows
from metaest.estimators.networks.base import BaseMAML
from metaest.estimators.networks.codes import row_of_task
from metaest.estimators.networks.constraints import CONSTRAINTS
from metaest.estimators.networks.network import require_finite_weights, within_range
from metaest.estimators.networks.policies import Policies, adapted_params
from metaest.exceptions import TaskError
from metaest.functional import Callback, MetaGradient, MetaGradientName, Rows

__all__ = ["MAMLPolicy"]

_FURTHER: dict[str, list[Any]] = {
    "utility": [StrOptions({"mean-variance", "sharpe", "sortino"})],
    "risk_aversion": [POSITIVE_OR_ZERO],
    "cost": [POSITIVE_OR_ZERO],
    "limit": [POSITIVE],
    "support_size": [Whole(1, None, closed="left")],
    "query_size": [Whole(1, None, closed="left"), None],
    "gap": [Whole(0, None, closed="left")],
}
_OTHERS = {"normalization", "batch_statistics", "inner_solver", "rank", "proximal", "multi_step_share",
           "first_order_share", "split", "device", "support_size"}  # fmt: skip


class MAMLPolicy(BaseMAML):
    r"""A policy meta-learned from many tasks: it acts at every moment, for a utility of all that its actions earn.

    .. math:: a_t = L \tanh f_\theta(x_t), \qquad r_t = a_t s_t y_t - c\,|a_t s_t - a_{t-1} s_{t-1}|,

    and ``fit`` maximises the utility of a stretch of time after inner steps up the utility of the stretch before it
    (MAML, arXiv:1703.03400). Rows are in order of time: the support of an episode is always earlier than its query,
    with `gap` rows between them, as many as outcomes overlap.

    In `cross_validate` and `GridSearchCV` leave ``scoring`` unset: `score` adapts, a scorer by name does not.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(16,)
    activation : {"identity", "logistic", "relu", "silu", "tanh"}, default="tanh"
    module : torch.nn.Module, callable or None, default=None
        A network of the user's with one output, or ``module(n_features, 1)`` that makes one.
    utility : {"mean-variance", "sharpe", "sortino"}, default="mean-variance"
        Utility of the rewards of a stretch of time; see :class:`metaest.functional.Utility`.
    risk_aversion : float, default=0.0
        Weight of the variance in "mean-variance", in the reciprocal of the unit of outcomes.
    cost : float, default=0.0
        Cost of changing the position by one, in the unit of outcomes; the first position is paid for.
    limit : float, default=1.0
        Actions lie between minus and plus this.
    inner_steps : int, default=3
    inner_lr : float, default=0.1
        Losses are in units of the spread of outcomes, so that the rate does not depend on theirs.
    learn_inner_lr : {False, "one", "per-parameter", "per-layer-and-step"}, default="per-parameter"
    adapt_layers, context_dim, meta_gradient
        As :class:`MAMLRegressor` takes them.
    support_size : int, default=60
        Rows of the look at a task in an episode, and in `score`. ``adapt`` takes as many as it is given.
    query_size : int or None, default=120
        Rows after it by which an episode judges; `score` judges by all that come. None for all.
    gap : int, default=0
        Rows left out between them.
    meta_lr, meta_batch_size, max_iter, alpha, max_grad_norm, early_stopping, validation_fraction, n_iter_no_change
        As :class:`MAMLRegressor` takes them.
    standardize, check_plausibility, warm_start, callbacks, random_state
        As :class:`MAMLRegressor` takes them; `standardize` is for features alone.
    compile, vectorize, max_batch_bytes, dtype, checkpoint, checkpoint_every, verbose
        As :class:`MAMLRegressor` takes them.

    Attributes
    ----------
    module_ : torch.nn.Module
        The network with the meta-learned weights.
    inner_lr_ : float or dict
        The learned rates.
    history_ : DataFrame
        ``step``, ``meta_loss`` (minus the utility), ``validation_loss``, ``seconds``.
    n_iter_, n_tasks_, n_features_in_ : int
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    feature_range_ : ndarray of shape (2, n_features)
        Smallest and largest value of each column in the training tasks, rounded outwards to two digits.
    batching_, batching_reason_, compiled_, compiled_reason_
        As :class:`MAMLRegressor` has them.

    See Also
    --------
    AdaptedPolicy : What ``adapt`` returns.

    Examples
    --------
    >>> import numpy as np
    >>> from metaest import MAMLPolicy
    >>> rng = np.random.default_rng(0)
    >>> tasks = []
    >>> for sign in rng.choice([-1.0, 1.0], 40):  # what pays in one task loses in another
    ...     X = rng.standard_normal((100, 1))
    ...     tasks.append((X, 0.5 * sign * X[:, 0] + rng.standard_normal(100)))
    >>> model = MAMLPolicy(support_size=40, max_iter=100, random_state=0).fit(tasks[:30])
    >>> model.score(tasks[30:]) > 0.2
    True
    >>> X, y = tasks[30]
    >>> policy = model.adapt(X[:40], y[:40])
    >>> policy.predict(X[40:]).shape
    (60,)
    """

    _parameter_constraints = {  # noqa: RUF012
        **{name: allowed for name, allowed in CONSTRAINTS.items() if name not in _OTHERS},
        **_FURTHER,
    }
    utility: Any
    # settings of other meta-learned networks that a policy does not offer
    normalization = None
    batch_statistics = "support"
    inner_solver = "gradient"
    rank = 16
    proximal = 1.0
    multi_step_share = 0.0
    first_order_share = 0.0
    split = "first"
    device = "cpu"

    def __init__(
        self,
        *,
        hidden_layer_sizes: int | Sequence[int] = (16,),
        activation: str = "tanh",
        module: nn.Module | Callable[[int, int], nn.Module] | None = None,
        utility: str = "mean-variance",
        risk_aversion: float = 0.0,
        cost: float = 0.0,
        limit: float = 1.0,
        inner_steps: int = 3,
        inner_lr: float = 0.1,
        learn_inner_lr: str | bool = "per-parameter",
        adapt_layers: str | Sequence[str] = "all",
        context_dim: int = 0,
        meta_gradient: MetaGradientName | MetaGradient = "exact",
        support_size: int = 60,
        query_size: int | None = 120,
        gap: int = 0,
        meta_lr: float = 0.01,
        meta_batch_size: int = 25,
        max_iter: int = 500,
        alpha: float = 0.0,
        max_grad_norm: float | None = 10.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 100,
        standardize: bool | Sequence[str | int] = True,
        check_plausibility: bool = True,
        warm_start: bool = False,
        callbacks: Sequence[Callback] = (),
        random_state: int | np.random.RandomState | None = None,
        compile: str | bool = "auto",
        vectorize: str | bool = "auto",
        max_batch_bytes: int | None = 2**30,
        dtype: str = "float32",
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 100,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.module = module
        self.utility = utility
        self.risk_aversion = risk_aversion
        self.cost = cost
        self.limit = limit
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.learn_inner_lr = learn_inner_lr
        self.adapt_layers = adapt_layers
        self.context_dim = context_dim
        self.meta_gradient = meta_gradient
        self.support_size = support_size
        self.query_size = query_size
        self.gap = gap
        self.meta_lr = meta_lr
        self.meta_batch_size = meta_batch_size
        self.max_iter = max_iter
        self.alpha = alpha
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.standardize = standardize
        self.check_plausibility = check_plausibility
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.random_state = random_state
        self.compile = compile
        self.vectorize = vectorize
        self.max_batch_bytes = max_batch_bytes
        self.dtype = dtype
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.verbose = verbose

    @property
    def kind(self) -> Policies:
        """Policies, at the present settings."""
        return Policies(**{field.name: getattr(self, field.name) for field in fields(Policies)})

    @in_plain_modes
    def adapt(self, X: Any, y: Any) -> AdaptedPolicy:
        """Adapt to one new task from a look at it; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_times, n_features)
            In order of time, without gaps. Without rows (``adapt([], [])``), actions are those of `predict`.
        y : array-like of shape (n_times,) or (n_times, 2)
            Outcomes, and scales where the fit had them.

        Returns
        -------
        AdaptedPolicy

        Raises
        ------
        TaskError
            When the rows cannot be used.
        DivergenceError
            When the adaptation becomes non-finite.
        """
        check_is_fitted(self)
        columns = Columns(self)
        rows, target = outcome_rows(columns, self._network, X, y, "adapt")
        adaptation = self._adaptation()
        return AdaptedPolicy._make(self._network, adaptation, self._params, None, rows, target, columns.names)

    @in_plain_modes
    def adapt_many(self, tasks: Any) -> list[AdaptedPolicy]:
        """Adapt to many tasks in one call, all rows of each; the same as one `adapt` a task.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)

        Returns
        -------
        list of AdaptedPolicy
        """
        check_is_fitted(self)
        tasks = as_tasks(tasks)
        self._check_columns(tasks, "adapt_many")
        as_outcomes(self._network, tasks.y, "adapt_many")
        network, adaptation, names = self._network, self._adaptation(), Columns(self).names
        columns, sizes = np.arange(int(tasks.sizes.max())), tasks.sizes[:, None]
        numbers = torch.from_numpy(tasks.offsets[:-1][:, None] + np.minimum(columns, sizes - 1))
        network.require_codes(tasks)
        place = partial(row_of_task, tasks)
        X = within_range(network.scale_features(tasks.X), network.dtype, "X", place)[numbers]
        y = within_range(network.outcomes(tasks.y), network.dtype, "y", place)[numbers]
        support = Rows(X, y, torch.from_numpy(columns < sizes).to(network.dtype))
        params = adapted_params(network, adaptation, self._params, support, self.batching_)
        require_finite_weights(params, tasks)
        return [
            AdaptedPolicy._make(
                network,
                adaptation,
                self._params,
                {name: value[i].clone() for name, value in params.items()},
                task.X,
                task.y,
                names,
            )
            for i, task in enumerate(tasks)
        ]

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Return the actions for a task of which nothing has been seen.

        Parameters
        ----------
        X : array-like or data frame of shape (n_times, n_features)

        Returns
        -------
        ndarray of shape (n_times,)
        """
        check_is_fitted(self)
        rows = Columns(self).rows(X, "predict")
        actions: NDArray[Any] = self._network.act(self._adaptation().zero_shot(self._params), rows)
        return actions

    @in_plain_modes
    def score(self, X: Any, y: Any = None, groups: Any = None, sample_weight: Any = None) -> float:
        """Return the mean utility over tasks: each is looked at for `support_size` rows, and judged by all that follow.

        Parameters
        ----------
        X, y, groups : as in `fit`
        sample_weight : None
            Utilities know no weights of rows.

        Returns
        -------
        float
        """
        check_is_fitted(self)
        if sample_weight is not None:
            raise TaskError("score: rows in order of time cannot be weighted; leave sample_weight out.")
        tasks = as_tasks(X, y, groups)
        self._check_columns(tasks, "score", X if y is not None else None)
        as_outcomes(self._network, tasks.y, "score")
        rng = np.random.default_rng(self._seed)
        sampler = self.kind.sampler(self._network, tasks, self._adaptation(), rng, training=False)
        return float(sampler.utilities(self._params, self.batching_, verbose=bool(self.verbose)).mean())

    def _can_judge(self) -> bool:
        return False
