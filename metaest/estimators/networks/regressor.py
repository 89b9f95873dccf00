"""MAMLRegressor: meta-learn a network from many tasks, adapt it to the next from a handful of rows."""

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import whether_guarded
from metaest.estimators.columns import Columns
from metaest.estimators.conformal import ConformalInterval, IntervalMixin, conformal_interval
from metaest.estimators.inputs import as_tasks, check_targets
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adaptation import Adaptation
from metaest.estimators.networks.adapted import (
    AdaptedRegressor,
    center_and_scale,
    predict_rows,
    require_conformal,
    require_statistics,
)
from metaest.estimators.networks.adapted_many import AdaptedRegressors
from metaest.estimators.networks.base import BaseMAML
from metaest.estimators.networks.codes import row_of_task
from metaest.estimators.networks.compiled import adapter_for, adapts_compiled, padded_support
from metaest.estimators.networks.constraints import REGRESSION_CONSTRAINTS
from metaest.estimators.networks.regression import Regression, require_targets
from metaest.functional import (
    Callback,
    Huber,
    InnerSolver,
    MetaGradient,
    MetaGradientName,
    Params,
    Quantile,
    RegressionLoss,
    as_regression_loss,
)
from metaest.tasks import TaskSet

__all__ = ["MAMLRegressor"]


class MAMLRegressor(IntervalMixin, RegressorMixin, BaseMAML):
    r"""Regression that learns from many small tasks how to learn the next one.

    Model-agnostic meta-learning [1]_: weights :math:`\theta` are sought from which a few gradient steps on a task's
    support rows give small errors on its query rows,

    .. math:: \min_\theta \frac{1}{T}\sum_t L_t^\mathrm{query}(\theta_t'), \qquad
              \theta_t' = \theta - \alpha \nabla L_t^\mathrm{support}(\theta) \text{ (repeated),}

    where L is the mean of a loss, by default the squared error in standardised units.

    In `cross_validate` and `GridSearchCV` leave ``scoring`` unset, or take a few-shot scorer of :mod:`metaest.scorers`:
    a scorer by name (``scoring="r2"``) measures the model before adaptation.

    Arguments come in five groups: the **network** (from `hidden_layer_sizes` on), **adaptation and episodes** (from
    `inner_solver` on), the **meta-gradient** (from `meta_gradient` on), the **outer loop** (from `meta_lr` on) and the
    **engine** (from `compile` on).

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(32, 32, 32)
        Units of each hidden layer of the built-in network.
    activation : {"identity", "logistic", "relu", "silu", "tanh"}, default="tanh"
        Activation of the built-in network's hidden layers.
    normalization : {"batch", "layer", "group"} or None, default=None
        Normalisation before each activation of the built-in network: "batch" over a task's support rows, "layer" and
        "group" over the units of a row. "batch" needs two support rows of every task, and is noisy with few.
    batch_statistics : {"support", "per-step"}, default="support"
        Which statistics batch normalisation uses after the fit, in a module of the user's, too: those of the task's
        support rows; or averages over the training tasks, one for each inner step (MAML++ [3]_), so that one support
        row is enough. During the fit it uses those of the support in either case. Statistics are never those of the
        rows to be predicted, nor running ones. Without adaptation they are averages over the training tasks.
    module : torch.nn.Module or callable, optional
        A network of the user's, taking rows of shape (n_rows, n_features) and returning (n_rows, n_targets). It is
        copied; its present weights are where meta-learning starts. A callable ``module(n_features, n_targets)`` must
        return one, with its weights drawn from torch's global generator (seeded by `random_state`).
    standardize : bool or sequence of str or int, default=True
        Whether columns of X and y are standardised by their mean and standard deviation over the training rows. A
        sequence names or numbers the columns of X (channels, of images) that are, with y; the others reach the network
        unchanged, which codes of categories for an embedding need.
    check_plausibility : bool, default=True
        Whether images that seem to have their channels last are refused.
    collate_fn : callable, optional
        For rows of a type of the user's (graphs, sets of vectors, strings), which `module` takes: a function of a list
        of rows that returns one floating tensor, with the rows along its first axis. X is then a list of rows. They
        are not standardised (`standardize` is about y alone) nor checked, so that a function may pad by NaN, and the
        other axes may differ from call to call: `fit` collates all rows at once, ``adapt``, ``predict`` and
        ``score`` those they work on. There is no ``n_features_in_``; `context_dim` is refused; ``calibrate`` does
        not notice tasks of the fit; and a pickle needs a function that can be pickled.
    inner_solver : {"gradient", "ridge", "bayes", "evidence"} or InnerSolver, default="gradient"
        How a task adapts: by gradient steps; or its last layer alone in closed form, on the features of the layers
        before, by ridge regression whose strength is learned (R2D2 [9]_), or by Bayes' rule from a learned prior with
        a learned noise (ALPaCA [10]_), which gives standard deviations. "evidence" is Bayes' rule as well, on the
        columns of X beside the features, from a prior that `rank` numbers a task span; `fit` maximises the evidence of
        all rows of each task (adaptive Bayesian linear regression [11]_), for support of every size at once, so that
        `support_size` and `split` do not matter to it; ``meta_loss`` is the negative log-evidence a row. It needs tens
        of tasks where columns are few, hundreds where they are many; take ``alpha=300`` with fewer than a thousand. In
        closed form the settings of the steps and of the meta-gradient have no effect, but for ``inner_steps=0``. An
        :class:`~metaest.functional.InnerSolver` object brings its own steps and rates.
    inner_steps : int, default=5
        Gradient steps of an adaptation; 0 gives the population model to everyone.
    inner_lr : float, default=0.05
        Rate of these steps, in standardised units. Wide or deep networks need smaller rates, and so does relu. Where
        the support losses of the tasks more than double at the start of a fit, or a fit diverges, the rate is halved
        until they do not, with a warning; ``inner_lr_`` is the rate used, also by ``adapt``.
    learn_inner_lr : {False, "one", "per-parameter", "per-layer-and-step"}, default=False
        Which rates are learned with the weights, from `inner_lr` on: none, one for all, one for each weight (Meta-SGD
        [2]_), or one for each weight matrix and bias in each step (MAML++ [3]_; the last step's serves for more steps).
    adapt_layers : {"all", "head", "body"} or sequence of str, default="all"
        Layers that an adaptation moves: all, the layer that runs last (ANIL [4]_), all but it (BOIL [5]_), or the
        parameters or layers named.
    context_dim : int, default=0
        Number of further inputs that alone are adapted, from zero, while the network stays as it is (CAVIA [6]_);
        a module of the user's gets n_features + context_dim columns.
    rank : int, default=16
        For "evidence" only: how many numbers tell tasks apart, of all targets together; at most as many count as the
        head has weights.
    loss : {"squared_error", "huber", "poisson", "quantile"}, RegressionLoss or callable, default="squared_error"
        Loss of a row, in the inner steps, in the meta-loss and in `early_stopping`. "huber" is the squared error up to
        `huber_threshold`, and linear beyond it, so that outliers count less. "poisson" is for counts: targets are at
        least 0, they are scaled and not centred, and the network's output is the logarithm of the prediction.
        "quantile" makes predictions of the quantile `quantile`. A callable takes predictions and targets of shape
        (n, n_targets) in standardised units and returns n losses, by operations of torch. Solvers in closed form
        minimise the squared error only. ``score`` is R2 and the guard compares squared errors, whatever the loss.
    huber_threshold : float, default=1.35
        The size of an error, in standardised units, beyond which "huber" is linear.
    quantile : float, default=0.5
        The quantile that "quantile" predicts after ``adapt``, between 0 and 1. Without adaptation the prediction is
        where adaptations start from, which need not be the quantile, or the mean, of all tasks.
    support_size : int, range, (smallest, largest) or None, default=(1, 5)
        Support rows of a task that does not carry its own; a range is drawn from anew in each episode. None takes
        half the rows, at most 10. At least one row is always left as query. A model that met few and many support
        rows in `fit` adapts safely to either.
    split : {"random", "first"}, default="random"
        Whether support rows are drawn, or are a task's first ones (rows in order of time).
    meta_gradient : {"exact", "first-order", "reptile", "implicit"} or MetaGradient, default="exact"
        How the meta-loss is differentiated: through the inner steps, with their Hessians ("exact", MAML); without the
        Hessians ("first-order", FOMAML); by the difference to weights adapted on all rows of a task ("reptile" [7]_);
        or from the end of the inner steps alone ("implicit", iMAML [8]_), which should then come near their minimum.
        Reptile trains only what moves: it needs ``adapt_layers="all"``. A
        :class:`~metaest.functional.MetaGradient` object is taken as well.
    proximal : float, default=1.0
        For "implicit" only: how strongly the weights of a task are held to where they started.
    multi_step_share : float, default=0.0
        Share of the meta-steps in which the query losses after every inner step count, the earlier ones less and less
        (MAML++).
    first_order_share : float, default=0.0
        Share of the meta-steps, at the beginning, that leave the Hessians out (MAML++).
    meta_lr : float, default=0.01
        Rate of Adam in the first meta-step; it falls to 0 along a cosine over `max_iter` steps.
    meta_batch_size : int, default=25
        Tasks a meta-step; all of them where there are fewer.
    max_iter : int, default=1000
        Meta-steps.
    alpha : float, default=30.0
        Weight decay (decoupled, as in AdamW), divided by the number of rows of all tasks, as MLPRegressor divides its
        own: a dozen tasks need a strong prior, and a thousand tasks need a weak one.
    max_grad_norm : float or None, default=1.0
        Longer meta-gradients are shortened to this norm.
    early_stopping : bool, default=False
        Whether to hold tasks out and keep the weights that adapt best to them.
    validation_fraction : float, default=0.1
        Share of the tasks held out by `early_stopping`, at least one task.
    n_iter_no_change : int, default=200
        Meta-steps without a better validation loss (computed every 10) before `early_stopping` ends the fit.
    warm_start : bool, default=False
        Whether another `fit` goes on from the weights and scaling of the last.
    callbacks : sequence of callable, default=()
        Each is called after every meta-step with an object that has ``step``, ``meta_loss``, ``validation_loss`` and
        ``seconds``; one that returns True ends the fit. One that cannot be pickled (a lambda, a function within a
        function) is left out when the fitted model is pickled; `fit` and the pickling warn of it.
    random_state : int, RandomState instance or None, default=None
        Fixes initial weights, draws of tasks and draws of support rows.
    compile : bool or "auto", default="auto"
        Whether meta-steps are compiled to machine code, several tasks in the lanes of the processor's vectors, which is
        tens of times faster for small networks. "auto" does so where llvmlite is installed, the fit takes at least 300
        meta-steps and the network is small enough; True skips both checks. A fit with an operation that cannot be
        compiled, such as a convolution, is left to torch, and a logged line says why.
    vectorize : bool or "auto", default="auto"
        Whether torch evaluates tasks at once (``torch.vmap``) or one after the other. "auto" maps where torch can, the
        result is that of the loop, and it is faster: convolutions on a CPU are looped over.
    max_batch_bytes : int or None, default=2**30
        About how much memory tasks may take that torch evaluates at once; a larger meta-batch is taken in parts, of
        which the gradients are summed. None sets no bound.
    device : {"auto", "cpu", "cuda"}, default="auto"
        "auto" takes a GPU where torch finds one.
    dtype : {"float32", "float64"}, default="float32"
        Precision of fitting and adapting. Predictions of float64 rows are computed in float64 with the same weights.
    checkpoint : path-like, optional
        A folder in which the fit keeps its state, so that one that was ended (by Ctrl-C, or a power cut) goes on with
        the same numbers when the same fit is called again; see :doc:`/guide/keeping`. Needs a `random_state`.
    checkpoint_every : int, default=100
        Meta-steps from one state to the next.
    verbose : bool, default=False
        Whether to show progress bars, on standard error: of a fit, a score, a calibration, of many adaptations and of
        what the guard learns.

    Attributes
    ----------
    module_ : torch.nn.Module
        The network with the meta-learned weights; it works on standardised columns.
    inner_lr_ : float, dict of str to ndarray, or None
        The rates of an adaptation: one; or by parameter, of its shape or of shape (inner_steps,); None in closed form.
    history_ : DataFrame
        One row a meta-step: step, meta_loss, validation_loss (missing where it was not computed), seconds. Reptile's
        meta_loss is of rows it has adapted to.
    n_iter_ : int
        Meta-steps taken.
    n_tasks_ : int
        Tasks fitted on, held-out ones included.
    n_features_in_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    feature_range_ : ndarray of shape (2, n_features)
        Smallest and largest value of each column in the training tasks, rounded outwards to two digits.
    batching_ : {"vmap", "loop"}
        How batches of tasks were evaluated.
    batching_reason_ : str
        Why.
    compiled_ : bool
        Whether meta-steps were taken in machine code.
    compiled_reason_ : str
        Why.

    See Also
    --------
    AdaptedRegressor : What ``adapt`` returns.
    FewShotRegressor : A fitted model as an ordinary regressor whose ``fit`` adapts.

    References
    ----------
    .. [1] C. Finn, P. Abbeel, S. Levine (2017). Model-agnostic meta-learning for fast adaptation of deep networks.
       ICML. :doi:`10.48550/arXiv.1703.03400`
    .. [2] Z. Li, F. Zhou, F. Chen, H. Li (2017). Meta-SGD: learning to learn quickly for few-shot learning.
       :doi:`10.48550/arXiv.1707.09835`
    .. [3] A. Antoniou, H. Edwards, A. Storkey (2019). How to train your MAML. ICLR. :doi:`10.48550/arXiv.1810.09502`
    .. [4] A. Raghu, M. Raghu, S. Bengio, O. Vinyals (2020). Rapid learning or feature reuse? Towards understanding the
       effectiveness of MAML. ICLR. :doi:`10.48550/arXiv.1909.09157`
    .. [5] J. Oh, H. Yoo, C. Kim, S.-Y. Yun (2021). BOIL: towards representation change for few-shot learning. ICLR.
       :doi:`10.48550/arXiv.2008.08882`
    .. [6] L. Zintgraf, K. Shiarlis, V. Kurin, K. Hofmann, S. Whiteson (2019). Fast context adaptation via
       meta-learning. ICML. :doi:`10.48550/arXiv.1810.03642`
    .. [7] A. Nichol, J. Achiam, J. Schulman (2018). On first-order meta-learning algorithms.
       :doi:`10.48550/arXiv.1803.02999`
    .. [8] A. Rajeswaran, C. Finn, S. Kakade, S. Levine (2019). Meta-learning with implicit gradients. NeurIPS.
       :doi:`10.48550/arXiv.1909.04630`
    .. [9] L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi (2019). Meta-learning with differentiable
       closed-form solvers. ICLR. :doi:`10.48550/arXiv.1805.08136`
    .. [10] J. Harrison, A. Sharma, M. Pavone (2018). Meta-learning priors for efficient online Bayesian regression.
       WAFR. :doi:`10.48550/arXiv.1807.08912`
    .. [11] V. Perrone, R. Jenatton, M. Seeger, C. Archambeau (2018). Scalable hyperparameter transfer learning.
       NeurIPS. :doi:`10.48550/arXiv.1712.02902`

    Examples
    --------
    >>> from metaest import MAMLRegressor
    >>> from metaest_datasets import make_sinusoids
    >>> tasks = make_sinusoids(60, random_state=0)
    >>> model = MAMLRegressor(max_iter=80, random_state=0).fit(tasks[:50])
    >>> model.score(tasks[50:]) > model.set_params(inner_steps=0).score(tasks[50:])  # few shots against none
    True
    """

    _parameter_constraints = REGRESSION_CONSTRAINTS

    def __init__(
        self,
        *,
        hidden_layer_sizes: Sequence[int] = (32, 32, 32),
        activation: str = "tanh",
        normalization: str | None = None,
        batch_statistics: str = "support",
        module: torch.nn.Module | Callable[[int, int], torch.nn.Module] | None = None,
        standardize: bool | Sequence[str | int] = True,
        check_plausibility: bool = True,
        collate_fn: Callable[[list[Any]], torch.Tensor] | None = None,
        inner_solver: str | InnerSolver = "gradient",
        inner_steps: int = 5,
        inner_lr: float = 0.05,
        learn_inner_lr: str | bool = False,
        adapt_layers: str | Sequence[str] = "all",
        context_dim: int = 0,
        rank: int = 16,
        loss: str | RegressionLoss | Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = "squared_error",
        huber_threshold: float = 1.35,
        quantile: float = 0.5,
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        meta_gradient: MetaGradientName | MetaGradient = "exact",
        proximal: float = 1.0,
        multi_step_share: float = 0.0,
        first_order_share: float = 0.0,
        meta_lr: float = 0.01,
        meta_batch_size: int = 25,
        max_iter: int = 1000,
        alpha: float = 30.0,
        max_grad_norm: float | None = 1.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 200,
        warm_start: bool = False,
        callbacks: Sequence[Callback] = (),
        random_state: int | np.random.RandomState | None = None,
        compile: str | bool = "auto",
        vectorize: str | bool = "auto",
        max_batch_bytes: int | None = 2**30,
        device: str = "auto",
        dtype: str = "float32",
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 100,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.normalization = normalization
        self.batch_statistics = batch_statistics
        self.module = module
        self.standardize = standardize
        self.check_plausibility = check_plausibility
        self.collate_fn = collate_fn
        self.inner_solver = inner_solver
        self.inner_steps = inner_steps
        self.inner_lr = inner_lr
        self.learn_inner_lr = learn_inner_lr
        self.adapt_layers = adapt_layers
        self.context_dim = context_dim
        self.rank = rank
        self.loss = loss
        self.huber_threshold = huber_threshold
        self.quantile = quantile
        self.support_size = support_size
        self.split = split
        self.meta_gradient = meta_gradient
        self.proximal = proximal
        self.multi_step_share = multi_step_share
        self.first_order_share = first_order_share
        self.meta_lr = meta_lr
        self.meta_batch_size = meta_batch_size
        self.max_iter = max_iter
        self.alpha = alpha
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.random_state = random_state
        self.compile = compile
        self.vectorize = vectorize
        self.max_batch_bytes = max_batch_bytes
        self.device = device
        self.dtype = dtype
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.verbose = verbose

    @property
    def kind(self) -> Regression:
        """Regression, at the present settings."""
        loss = as_regression_loss(self.loss)
        if self.loss == "huber":
            loss = Huber(float(self.huber_threshold))
        if self.loss == "quantile":
            loss = Quantile(float(self.quantile))
        return Regression(loss, self.support_size, self.split, self.check_plausibility, self.collate_fn is not None)

    def __sklearn_tags__(self) -> Tags:
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @in_plain_modes
    def adapt(self, X: Any, y: Any, *, guard: bool | None = None, gap: int = 0) -> AdaptedRegressor:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
            Without rows (``adapt([], [])``), predictions are those of the model before adaptation.
        y : array-like of shape (n_rows,) or (n_rows, n_targets)
        guard : bool, optional
            Whether to judge the adaptation on rows it did not see, and to keep, shrink or refuse it; see
            :class:`Guard`; None is no. The first call learns from the training tasks how to judge, which takes a
            moment.
        gap : int, default=0
            For the guard, where ``split="first"``: rows left out between those adapted on and those judged on, as many
            as windows and horizon overlap.

        Returns
        -------
        AdaptedRegressor

        Raises
        ------
        TaskError
            When the rows cannot be used.
        DivergenceError
            When the adaptation becomes non-finite.
        ValueError
            When gap is not a whole number of rows.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        columns, single = Columns(self), self._network.single_target
        rows, target = columns.support_rows(X, y, "adapt", single_target=single, n_outputs=self.n_outputs_)
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, self.guard_by_default) else None
        adaptation = self._adaptation()
        compiled = len(rows) and adapts_compiled(self.compile, 1)
        params = self._adapted_compiled(adaptation, rows, target) if compiled else None
        return AdaptedRegressor._adapt(
            self._network, adaptation, self._params, rows, target, columns.names, judge, self._conformal, params
        )

    @in_plain_modes
    def adapt_many(self, tasks: Any, *, guard: bool = False, gap: int = 0) -> AdaptedRegressors:
        """Adapt to many tasks in one call, all rows of each; the same as one `adapt` a task, to rounding.

        With ``compile=True``, or with "auto" from 2,000 tasks on, the inner steps are taken in machine code.

        Parameters
        ----------
        tasks : TaskSet, sequence of Task or of (X, y) pairs, or mapping of name to (X, y)
        guard : bool, default=False
            Whether to judge each adaptation as ``adapt(guard=True)`` does; one batch judges all tasks.
        gap : int, default=0
            For the guard, as in `adapt`.

        Returns
        -------
        AdaptedRegressors

        Raises
        ------
        TaskError
            When the tasks cannot be used; the message names task and column.
        ValueError
            When gap is no number of rows.
        DivergenceError
            When an adaptation becomes non-finite.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        columns = Columns(self)
        tasks = as_tasks(tasks, object_rows=columns.objects)
        self._check_columns(tasks, "adapt_many")
        check_targets(tasks.y, self._network.single_target, self.n_outputs_, "adapt_many")
        judge = self._fitted_guard(gap) if whether_guarded(guard, gap, False) else None
        return AdaptedRegressors(
            self._network,
            self._adaptation(),
            self._params,
            tasks,
            columns.names,
            batching=self.batching_,
            compile=self.compile,
            verbose=bool(self.verbose),
            judge=judge,
            conformal=self._conformal,
        )

    def _adapted_compiled(self, adaptation: Adaptation, X: NDArray[Any], y: NDArray[Any]) -> Params | None:
        """Return parameters adapted in machine code, or None where torch has to do it."""
        require_statistics(adaptation, X)
        support = self._network.rows(X, self._network.scale_targets(y))
        adapter = adapter_for(self._network, adaptation, self._params, len(X), support)
        if adapter is None:
            return None
        adapted, good = adapter(padded_support(support, adapter.n_rows))
        return {name: torch.from_numpy(value[0]) for name, value in adapted.items()} if good[0] else None

    @in_plain_modes
    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict without adapting: the answer for a task of which nothing is known yet.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features)
        return_std : bool, default=False
            Whether to return the standard deviation of an observation as well; with ``inner_solver="bayes"`` or
            "evidence" only.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_targets), or two of them
        """
        check_is_fitted(self)
        adaptation = self._adaptation()
        return predict_rows(Columns(self), self._network, adaptation.zero_shot(self._params), adaptation, X, return_std)

    @in_plain_modes
    def predict_interval(
        self, X: Any, level: float = 0.9, method: str = "conformal", simultaneous: bool = False
    ) -> ConformalInterval:
        """Return the ends of an interval for every row of a task of which nothing is known yet; see `calibrate`.

        Parameters
        ----------
        X, level, method, simultaneous
            As :meth:`AdaptedRegressor.predict_interval` takes them.

        Returns
        -------
        ConformalInterval
            Unpacks as ``lower, upper``.

        Raises
        ------
        ValueError
            When a setting makes no sense, or the model was not calibrated.
        TaskError
            As in `predict`.
        """
        require_conformal(method)
        check_is_fitted(self)
        return conformal_interval(self, X, level, simultaneous)

    def _center_and_scale(self, X: Any, sample_weight: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
        return center_and_scale(self.predict, self._adaptation(), X)

    def _prepared(self, tasks: TaskSet) -> TaskSet:
        require_targets(self._network.loss, tasks.y, partial(row_of_task, tasks))
        return tasks

    @property
    def _single_target(self) -> bool:
        single: bool = self._network.single_target
        return single

    def _query_predictions(
        self, tasks: TaskSet, rng: np.random.Generator
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.intp]]:
        sampler = self.kind.sampler(self._network, tasks, self._adaptation(), rng, training=False)
        return sampler.predict_queries(self._params, self.batching_, verbose=bool(self.verbose))
