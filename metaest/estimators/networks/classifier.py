"""MAMLClassifier: meta-learn a network from many tasks, adapt it to the classes of the next from a handful of rows."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from metaest.estimators.arguments import whether_guarded
from metaest.estimators.columns import Columns
from metaest.estimators.label_scores import FewShotScores, Predicted
from metaest.estimators.modes import in_plain_modes
from metaest.estimators.networks.adapted_classifier import AdaptedClassifier, class_rows, probabilities_of
from metaest.estimators.networks.base import BaseMAML
from metaest.estimators.networks.classification import Classification
from metaest.estimators.networks.constraints import CLASS_CONSTRAINTS
from metaest.functional import Callback, InnerSolver, MetaGradient, MetaGradientName
from metaest.tasks import TaskSet

__all__ = ["MAMLClassifier"]


class MAMLClassifier(FewShotScores, ClassifierMixin, BaseMAML):
    r"""Classification that learns from many small tasks how to learn the next one.

    Model-agnostic meta-learning [1]_: weights :math:`\theta` are sought from which a few gradient steps on a task's
    support rows give a small loss on its query rows,

    .. math:: \min_\theta \frac{1}{T}\sum_t L_t^\mathrm{query}(\theta_t'), \qquad
              \theta_t' = \theta - \alpha \nabla L_t^\mathrm{support}(\theta) \text{ (repeated),}

    where L is the mean cross-entropy. Where each task has labels of its own, all its classes start from the same
    weights of the last layer [11]_, so that neither the order nor the number of classes has to be that of the fit; a
    last layer that stays as it is (``adapt_layers="body"``, `context_dim`) has one output for each class instead.

    In `cross_validate` and `GridSearchCV` leave ``scoring`` unset, or take a few-shot scorer of :mod:`metaest.scorers`:
    a scorer by name (``scoring="accuracy"``) measures the model before adaptation.

    Arguments come in five groups: the **network** (from `hidden_layer_sizes` on), **adaptation and episodes** (from
    `inner_solver` on), the **meta-gradient** (from `meta_gradient` on), the **outer loop** (from `meta_lr` on) and the
    **engine** (from `compile` on).

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default=(32, 32, 32)
        Units of each hidden layer of the built-in network; for images, channels of each block of convolution and
        pooling (``(64, 64, 64, 64)`` is the Conv4 of few-shot learning).
    activation : {"identity", "logistic", "relu", "silu", "tanh"}, default="relu"
        Activation of the built-in network's hidden layers.
    normalization : {"batch", "layer", "group"} or None, default="layer"
        Normalisation before each activation of the built-in network: "batch" over a task's support rows, "layer" and
        "group" over the units of a row. "batch" needs two support rows of every task, and is noisy with few.
    batch_statistics : {"support", "per-step"}, default="support"
        Which statistics batch normalisation uses after the fit, in a module of the user's, too: those of the task's
        support rows; or averages over the training tasks, one for each inner step (MAML++ [3]_), so that one support
        row is enough. During the fit it uses those of the support in either case. Statistics are never those of the
        rows to be predicted, nor running ones. Without adaptation they are averages over the training tasks.
    module : torch.nn.Module or callable, optional
        A network of the user's, taking rows of shape (n_rows, n_features), or images, and returning logits of shape
        (n_rows, n_classes). It is copied; its present weights are where meta-learning starts. A callable
        ``module(n_features, n_classes)`` must return one, with its weights drawn from torch's global generator (seeded
        by `random_state`); for images it gets (channels, height, width) in place of n_features.
    standardize : bool or sequence of str or int, default=True
        Whether columns of X (channels, of images) are standardised by their mean and standard deviation over the
        training rows. A sequence names or numbers those that are; the others reach the network unchanged, which codes
        of categories for an embedding need.
    check_plausibility : bool, default=True
        Whether images that seem to have their channels last are refused.
    collate_fn : callable, optional
        For rows of a type of the user's (graphs, sets of vectors, strings), which `module` takes: a function of a list
        of rows that returns one floating tensor, with the rows along its first axis. X is then a list of rows. They
        are neither standardised nor checked, so that a function may pad by NaN, and the other axes may differ from
        call to call: `fit` collates all rows at once, ``adapt``, ``predict`` and ``score`` those they work on.
        There is no ``n_features_in_``; `context_dim` is refused; and a pickle needs a function that can be pickled.
    inner_solver : {"gradient", "ridge", "bayes"} or InnerSolver, default="gradient"
        How a task adapts: by gradient steps; or its last layer alone in closed form, by least squares on indicators of
        the classes: ridge regression whose strength is learned (R2D2 [9]_), or regression with a learned prior
        (ALPaCA's [10]_), which is less sure far from the support. In closed form the settings of the steps and of the
        meta-gradient have no effect, but for ``inner_steps=0``. An :class:`~metaest.functional.InnerSolver` object
        brings its own steps and rates.
    inner_steps : int, default=5
        Gradient steps of an adaptation; 0 gives the population model to everyone.
    inner_lr : float, default=0.2
        Rate of these steps. Wide or deep networks need smaller rates; a fit lowers it where it overshoots, as
        :class:`MAMLRegressor` does.
    learn_inner_lr : {False, "one", "per-parameter", "per-layer-and-step"}, default=False
        Which rates are learned with the weights, from `inner_lr` on: none, one for all, one for each weight (Meta-SGD
        [2]_), or one for each weight matrix and bias in each step (MAML++ [3]_; the last step's serves for more steps).
    adapt_layers : {"all", "head", "body"} or sequence of str, default="all"
        Layers that an adaptation moves: all, the layer that runs last (ANIL [4]_), all but it (BOIL [5]_), or the
        parameters or layers named.
    context_dim : int, default=0
        Number of further inputs that alone are adapted, from zero, while the network stays as it is (CAVIA [6]_);
        a module of the user's gets n_features + context_dim columns.
    shared_labels : {"auto", True, False}, default="auto"
        Whether a label means the same in every task, as "ill" does, and has an output of its own; or each task has
        labels of its own, as an alphabet has letters, which take outputs in random order in the fit. "auto" shares
        them where one training task at least has every label there is, and `n_way` is None.
    n_way : int, optional
        Classes of an episode, drawn from those of a task; all of them by default. One labelled data set with many
        classes then gives many episodes.
    k_shot : int, range or (smallest, largest), optional
        Support rows of each class; from a range a number of its own for each class. At least one row of each class is
        left as query where there are two. It goes before `support_size`.
    n_query : int, optional
        Query rows of each class at most; all that are left by default.
    support_size : int, range, (smallest, largest) or None, default=(1, 5)
        Support rows of a task that does not carry its own, whatever their classes; where each task has labels of its
        own, at least one row of each. A range is drawn from anew in each episode; None takes half the rows, at most
        10. At least one row is always left as query.
    split : {"random", "first"}, default="random"
        Whether support rows are drawn, or are a task's first ones (rows in order of time).
    balanced : bool, default=False
        Whether every class counts the same in the query loss, however many rows it has there: the initialisation
        learned then makes up for a support in which some classes are rare.
    class_weight : dict, "balanced", "learned" or None, default=None
        Weights of classes in the losses. A dict, for labels that are shared, holds in support and query; so does
        "balanced", with the reciprocal of the number of a class's rows. "learned" is for the support alone: weights
        fall with the number of a class's rows to a power that is learned, from 0, and shared labels have a learned
        factor each.
    scoring : {"accuracy", "balanced_accuracy", "f1_macro"}, default="accuracy"
        The score that ``score`` returns.
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
        Tasks a meta-step; all of them where there are fewer, unless `n_way` draws several episodes of a task.
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
    compile, vectorize, max_batch_bytes
        As :class:`MAMLRegressor` takes them; of classes, meta-steps alone are compiled, and no adaptation.
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
        Whether to show progress bars, on standard error: of a fit and of a score.

    Attributes
    ----------
    classes_ : ndarray
        All labels, sorted; only where they mean the same in every task.
    shared_labels_ : bool
        Whether they do.
    class_weight_ : dict or None
        With ``class_weight="learned"``: the learned ``"exponent"`` and ``"weights"`` (None unless labels are shared).
    module_ : torch.nn.Module
        The network with the meta-learned weights; it works on standardised columns and returns logits.
    inner_lr_ : float, dict of str to ndarray, or None
        The rates of an adaptation: one; or by parameter, of its shape or of shape (inner_steps,); None in closed form.
    history_ : DataFrame
        One row a meta-step: step, meta_loss, validation_loss (missing where it was not computed), seconds.
    n_iter_, n_tasks_, n_features_in_ : int
        Meta-steps taken, tasks fitted on, and columns (channels) of X.
    feature_names_in_ : ndarray of str
        Only where the tasks had named columns.
    feature_range_ : ndarray of shape (2, n_features)
        Smallest and largest value of each column in the training tasks, rounded outwards to two digits.
    batching_, batching_reason_ : str
        How batches of tasks were evaluated, "vmap" or "loop", and why.

    See Also
    --------
    AdaptedClassifier : What ``adapt`` returns.
    FewShotClassifier : A fitted model as an ordinary classifier whose ``fit`` adapts.
    make_episodes : Episodes of one labelled data set.

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
    .. [11] H.-J. Ye, W.-L. Chao (2022). How to train your MAML to excel in few-shot classification. ICLR.
       :doi:`10.48550/arXiv.2106.16245`

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from metaest import MAMLClassifier, make_episodes
    >>> X, y = load_digits(return_X_y=True)
    >>> seen = y < 6
    >>> model = MAMLClassifier(n_way=4, k_shot=(1, 5), n_query=5, max_iter=40, random_state=0).fit(X[seen], y[seen])
    >>> new = make_episodes(X[~seen], y[~seen], n_way=4, k_shot=5, n_query=15, n_episodes=20, random_state=0)
    >>> model.score(new) > 0.5  # four digits it has never seen, five drawings of each
    True
    """

    _parameter_constraints = CLASS_CONSTRAINTS
    # a setting of regressions that classifiers do not offer
    rank = 16

    def __init__(
        self,
        *,
        hidden_layer_sizes: Sequence[int] = (32, 32, 32),
        activation: str = "relu",
        normalization: str | None = "layer",
        batch_statistics: str = "support",
        module: torch.nn.Module | Callable[[Any, int], torch.nn.Module] | None = None,
        standardize: bool | Sequence[str | int] = True,
        check_plausibility: bool = True,
        collate_fn: Callable[[list[Any]], torch.Tensor] | None = None,
        inner_solver: str | InnerSolver = "gradient",
        inner_steps: int = 5,
        inner_lr: float = 0.2,
        learn_inner_lr: str | bool = False,
        adapt_layers: str | Sequence[str] = "all",
        context_dim: int = 0,
        shared_labels: str | bool = "auto",
        n_way: int | None = None,
        k_shot: int | range | tuple[int, int] | None = None,
        n_query: int | None = None,
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        balanced: bool = False,
        class_weight: dict[Any, float] | str | None = None,
        scoring: str = "accuracy",
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
        self.shared_labels = shared_labels
        self.n_way = n_way
        self.k_shot = k_shot
        self.n_query = n_query
        self.support_size = support_size
        self.split = split
        self.balanced = balanced
        self.class_weight = class_weight
        self.scoring = scoring
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
    def kind(self) -> Classification:
        """Classification, at the present settings."""
        names = [field.name for field in fields(Classification) if field.name != "object_rows"]
        settings = {name: getattr(self, name) for name in names}
        return Classification(**settings, object_rows=self.collate_fn is not None)

    @in_plain_modes
    def adapt(self, X: Any, y: Any, *, guard: bool | None = None, gap: int = 0) -> AdaptedClassifier:
        """Adapt to one new task from a handful of its rows; the model itself is untouched.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)
        y : array-like of shape (n_rows,)
            Labels. Where tasks have labels of their own, all classes of the task have to be among them.
        guard : bool, optional
            Whether to judge the adaptation on rows it did not see, and to keep, shrink or refuse it (see
            :class:`Guard`); where labels mean the same in every task only, since there is no population otherwise;
            None is no. The first call learns from the training tasks how to judge, which takes a moment.
        gap : int, default=0
            For the guard, where ``split="first"``: rows left out between those adapted on and those judged on.

        Returns
        -------
        AdaptedClassifier

        Raises
        ------
        TaskError
            When the rows cannot be used, or a label has no meaning to the model.
        DivergenceError
            When the adaptation becomes non-finite.
        ValueError
            When a guard is asked of tasks with labels of their own, or gap is not a whole number of rows.
        NotFittedError
            Before `fit`.
        """
        check_is_fitted(self)
        guarded = whether_guarded(guard, gap, False)
        columns = Columns(self)
        rows, labels = class_rows(columns, X, y, "adapt")
        if guarded and self._network.labels is None:
            raise ValueError(
                "guard=True compares with the answer before adaptation, and there is none where each task has labels "
                "of its own."
            )
        judge = self._fitted_guard(gap) if guarded else None
        adaptation = self._adaptation()
        return AdaptedClassifier._adapt(self._network, adaptation, self._params, rows, labels, columns.names, judge)

    @in_plain_modes
    def predict_proba(self, X: Any) -> NDArray[Any]:
        """Predict probabilities without adapting, where labels mean the same in every task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)

        Returns
        -------
        ndarray of shape (n_rows, n_classes)
            In the order of ``classes_``.

        Raises
        ------
        ValueError
            When each task has labels of its own: there is no answer without a task.
        """
        check_is_fitted(self)
        if self._network.labels is None:
            raise ValueError(
                "each task has labels of its own, so there is nothing to predict before a task's labels are known; "
                "call adapt(X, y) first."
            )
        network, adaptation, n = self._network, self._adaptation(), len(self.classes_)
        return probabilities_of(Columns(self), network, adaptation, adaptation.zero_shot(self._params), X, n)

    @in_plain_modes
    def predict(self, X: Any) -> NDArray[Any]:
        """Predict labels without adapting, where labels mean the same in every task.

        Parameters
        ----------
        X : array-like or data frame of shape (n_rows, n_features), or images (n_rows, channels, height, width)

        Returns
        -------
        ndarray of shape (n_rows,)
        """
        probabilities = self.predict_proba(X)
        labels: NDArray[Any] = self._network.labels[probabilities.argmax(axis=1)]
        return labels

    def _predicted(self, X: Any, y: Any, groups: Any) -> tuple[TaskSet, Predicted]:
        check_is_fitted(self)
        kind = self.kind
        tasks = kind.read(X, y, groups)
        self._check_columns(tasks, "score", X if y is not None else None)
        rng = np.random.default_rng(self._seed)
        sampler = kind.sampler(self._network, tasks, self._adaptation(), rng, training=False)
        return tasks, sampler.predict_queries(self._params, self.batching_, verbose=bool(self.verbose))

    def _shares_labels(self) -> bool:
        return self._network.labels is not None

    def _can_judge(self) -> bool:
        return self._network.labels is not None
