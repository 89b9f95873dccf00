"""MAMLRegressor: meta-learn a network from many tasks, adapt it to the next from a handful of rows."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.adapted import AdaptedRegressor, check_support_rows
from metaest.estimators.constraints import CONSTRAINTS
from metaest.estimators.episodes import Source
from metaest.estimators.inputs import as_rows, as_tasks, check_columns, remember_columns
from metaest.estimators.network import Network
from metaest.estimators.scoring import FewShotScore
from metaest.estimators.training import history_frame, meta_train
from metaest.functional import Callback, GradientDescent, MetaGradient
from metaest.tasks import TaskSet

__all__ = ["MAMLRegressor"]


class MAMLRegressor(FewShotScore, RegressorMixin, BaseEstimator):
    r"""Regression that learns from many small tasks how to learn the next one.

    Model-agnostic meta-learning [1]_: weights :math:`\theta` are sought from which a few gradient steps on a task's
    support rows give small errors on its query rows,

    .. math:: \min_\theta \frac{1}{T}\sum_t L_t^\mathrm{query}(\theta_t'), \qquad
              \theta_t' = \theta - \alpha \nabla L_t^\mathrm{support}(\theta) \text{ (repeated),}

    where L is the mean squared error in standardised units.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(32, 32, 32)
        Units of each hidden layer of the built-in network.
    activation : {"identity", "logistic", "relu", "silu", "tanh"}, default="tanh"
        Of the built-in network's hidden layers.
    module : torch.nn.Module or callable, optional
        A network of your own, taking rows of shape (n_rows, n_features) and returning (n_rows, n_targets). It is
        copied; its present weights are where meta-learning starts. A callable ``module(n_features, n_targets)`` must
        return one, with its weights drawn from torch's global generator (seeded by `random_state`).
    inner_steps : int, default=5
        Gradient steps of an adaptation; 0 gives the population model to everyone.
    inner_lr : float, default=0.05
        Rate of these steps, in standardised units. Wide or deep networks bear less: they say so by diverging.
    meta_gradient : {"exact", "first-order"}, default="exact"
        Whether the meta-gradient goes through the inner steps' Hessians (MAML) or leaves them out (FOMAML).
    support_size : int, range, (smallest, largest) or None, default=(1, 5)
        Support rows of a task that does not carry its own; a range is drawn from anew in each episode. None takes
        half the rows, at most 10. At least one row is always left as query. A model that met few and many support
        rows in `fit` adapts safely to either.
    split : {"random", "first"}, default="random"
        Whether support rows are drawn, or are a task's first ones (rows in order of time).
    meta_lr : float, default=0.01
        Rate of Adam in the first meta-step; it falls to 0 along a cosine over `max_iter` steps.
    meta_batch_size : int, default=25
        Tasks a meta-step; all of them where there are fewer.
    max_iter : int, default=1000
        Meta-steps.
    alpha : float, default=30.0
        Weight decay (decoupled, as in AdamW), divided by the number of rows of all tasks, as MLPRegressor divides its
        own: a prior that keeps a dozen tasks from being learnt by heart must not hold back a thousand.
    max_grad_norm : float or None, default=1.0
        Longer meta-gradients are shortened to this norm.
    early_stopping : bool, default=False
        Whether to hold tasks out and keep the weights that adapt best to them.
    validation_fraction : float, default=0.1
        Share of the tasks held out by `early_stopping`, at least one task.
    n_iter_no_change : int, default=200
        Meta-steps without a better validation loss (computed every 10) before `early_stopping` ends the fit.
    standardize : bool, default=True
        Whether columns of X and y are standardised by their mean and standard deviation over the training rows.
    warm_start : bool, default=False
        Whether another `fit` goes on from the weights and scaling of the last.
    callbacks : sequence of callable, default=()
        Each is called after every meta-step with an object that has ``step``, ``meta_loss``, ``validation_loss`` and
        ``seconds``; one that returns True ends the fit.
    random_state : int, RandomState instance or None, default=None
        Fixes initial weights, draws of tasks and draws of support rows.
    device : {"auto", "cpu", "cuda"}, default="auto"
        "auto" takes a GPU where torch finds one.
    dtype : {"float32", "float64"}, default="float32"
        Of fitting and adapting. Predictions of float64 rows are computed in float64 with the same weights.
    verbose : bool, default=False
        Whether to show a progress bar.

    Attributes
    ----------
    module_ : torch.nn.Module
        The network with the meta-learned weights; it works on standardised columns.
    history_ : DataFrame
        One row a meta-step: step, meta_loss, validation_loss (missing where it was not computed), seconds.
    n_iter_ : int
        Meta-steps taken.
    n_tasks_ : int
        Tasks fitted on, held-out ones included.
    n_features_in_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    batching_ : {"vmap", "loop"}
        How batches of tasks were evaluated.
    batching_reason_ : str
        Why.

    See Also
    --------
    AdaptedRegressor : What ``adapt`` returns.
    FewShotRegressor : A fitted model as an ordinary regressor whose ``fit`` adapts.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine (2017). Model-agnostic meta-learning for fast adaptation of deep networks.
       ICML. :doi:`10.48550/arXiv.1703.03400`

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest_datasets import make_sinusoids
    >>> tasks = make_sinusoids(120, random_state=0)
    >>> model = MAMLRegressor(max_iter=200, random_state=0).fit(tasks[:100])
    >>> model.score(tasks[100:]) > model.set_params(inner_steps=0).score(tasks[100:])  # few shots against none
    True
    """

    _parameter_constraints = CONSTRAINTS
    # groups are requested by default
    __metadata_request__fit = {"groups": True}  # noqa: RUF012
    __metadata_request__score = {"groups": True}  # noqa: RUF012

    def __init__(
        self,
        *,
        hidden_layer_sizes: Sequence[int] = (32, 32, 32),
        activation: str = "tanh",
        module: torch.nn.Module | Callable[[int, int], torch.nn.Module] | None = None,
        inner_steps: int = 5,
        inner_lr: float = 0.05,
        meta_gradient: MetaGradient = "exact",
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        meta_lr: float = 0.01,
        meta_batch_size: int = 25,
        max_iter: int = 1000,
        alpha: float = 30.0,
        max_grad_norm: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 200,
        standardize: bool = True,
        warm_start: bool = False,
        callbacks: Sequence[Callback] = (),
        random_state: int | np.random.RandomState | None = None,
        device: str = "auto",
        dtype: str = "float32",
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.module = module
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.meta_gradient = meta_gradient
        self.support_size = support_size
        self.split = split
        self.meta_lr = meta_lr
        self.meta_batch_size = meta_batch_size
        self.max_iter = max_iter
        self.alpha = alpha
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.standardize = standardize
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> "MAMLRegressor":
        """Meta-learn from many tasks.

        Parameters
        ----------
        X : TaskSet, sequence of Task, sequence of (X, y) pairs, or array-like of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets), optional
            With flat rows only.
        groups : array-like of shape (n_rows,), optional
            The task of each flat row; without it all rows are one task, and a warning says so.

        Returns
        -------
        self

        Raises
        ------
        TaskError
            When the tasks cannot be used; the message names task and column.
        DivergenceError
            When the meta-loss becomes non-finite; what was fitted before is kept.
        """
        self._validate_params()
        tasks = as_tasks(X, y, groups)
        trained = meta_train(self, tasks, seed := int(check_random_state(self.random_state).randint(2**31 - 1)))
        self.module_ = trained.network.copy_module(trained.params)
        self._network: Network = trained.network
        self._params = trained.params
        self._seed = seed
        self._y_mean = tasks.y.mean(axis=0, dtype=np.float64)
        self.history_ = history_frame(trained.history)
        self.n_iter_ = len(trained.history)
        self.n_tasks_ = len(tasks)
        self.n_features_in_, self.n_outputs_ = tasks.X.shape[1], 1 if tasks.y.ndim == 1 else tasks.y.shape[1]
        self.batching_, self.batching_reason_ = trained.batching, trained.batching_reason
        remember_columns(self, tasks.feature_names)
        return self

    def adapt(self, X: Any, y: Any) -> AdaptedRegressor:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        y : array-like of shape (n_rows,) or (n_rows, n_targets)

        Returns
        -------
        AdaptedRegressor

        Raises
        ------
        TaskError
            When the rows cannot be used.
        DivergenceError
            When the adaptation becomes non-finite.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        rows, target = check_support_rows(self, self._network.single_target, X, y, "adapt")
        names = getattr(self, "feature_names_in_", None)
        return AdaptedRegressor._adapt(self._network, self._params, self._solver(), rows, target, names)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict without adapting: the answer for a task of which nothing is known yet.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets)
        """
        check_is_fitted(self)
        rows, _, _ = as_rows(X, None, "predict")
        check_columns(self, X, rows.shape[1], "predict")
        return self._network.predict(self._params, rows)

    @property
    def _single_target(self) -> bool:
        return self._network.single_target

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        source = Source(self._network, tasks, self.support_size, self.split, rng)
        return source.predict_queries(self._params, self._solver(), self.batching_)

    def _solver(self) -> GradientDescent:
        return GradientDescent(int(self.inner_steps), float(self.inner_lr))

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
