"""Classification: its network, its adaptation, and its episodes."""

import math
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from metaest.estimators.guard import Answers
from metaest.estimators.inputs import as_tasks
from metaest.estimators.label_scores import Predicted
from metaest.estimators.networks.adaptation import Adaptation, Differentiated, moving_names
from metaest.estimators.networks.episodes import Batches, CompilerDraws, EpisodeSampler, batch_forward
from metaest.estimators.networks.images import require_channels_first
from metaest.estimators.networks.network import Network, build_parts
from metaest.estimators.networks.settings import InnerSettings, MetaSettings, NetworkSettings
from metaest.exceptions import TaskError
from metaest.functional import (
    BatchForward,
    ClassHead,
    Episodes,
    HeadForward,
    Loss,
    ModuleForward,
    Params,
    Rows,
    cross_entropy,
    looped,
)
from metaest.functional.inner.class_weights import weigh_classes
from metaest.functional.modules.head import layer_of
from metaest.functional.progress import progress
from metaest.jit import EpisodeDraws, EpisodeShapes, RowsShape
from metaest.tasks import (
    Classes,
    ClassSplit,
    Drawing,
    TaskSet,
    class_widths,
    encode,
    encode_known,
    share_labels,
    split_classes,
)

__all__ = [
    "ClassAdaptation",
    "ClassNetwork",
    "ClassSampler",
    "Classification",
    "indicators",
    "query_answers",
]


# names of the learned weights of classes in the support, among the meta-parameters
EXPONENT = "class_weight:exponent"
LOG_WEIGHTS = "class_weight:logarithms"
# numbers in the rows that are copied for the compiler at once: 16 MB in single precision
MOST_NUMBERS = 4_000_000
# tasks a meta-step that count for that bound
MOST_TASKS = 10_000


def head_names(forward: ModuleForward) -> tuple[str, ...]:
    """Return the names of the last layer's parameters where it is linear, so that classes may share them; () if not."""
    if forward.last is None or type(forward.module.get_submodule(forward.last)) is not nn.Linear:
        return ()
    return tuple(name for name in forward.names if layer_of(name) == forward.last)


@dataclass(frozen=True)
class ClassAdaptation(Adaptation):
    """The adaptation a classifier's settings ask for.

    Where labels mean nothing beyond their task, nothing may depend on their order: every class of a task starts from
    the same weights of the last layer, as long as these move in an adaptation (Ye and Chao, 2022, arXiv:2106.16245).
    Their number then follows from the task.

    Attributes
    ----------
    alike : tuple of str
        The parameters every class shares at its start; kept as those of one class.
    n_outputs : int
        Outputs of the module as it was built.
    exponent : float or None
        Support rows count as the number of rows of their class to the power of minus this; None where it is learned.
    label_weights : tuple of float or None
        Weights of shared classes, in support and query.
    balanced : bool
        Whether every class counts the same in the query.
    shared : bool
        Whether labels mean the same in every task.
    """

    head: ClassHead | None
    alike: tuple[str, ...] = ()
    n_outputs: int = 0
    exponent: float | None = 0.0
    label_weights: tuple[float, ...] | None = None
    balanced: bool = False
    shared: bool = True

    @staticmethod
    def _head(inner: InnerSettings, forward: HeadForward) -> ClassHead:
        """Return the head that a closed form solves."""
        return ClassHead(inner.bayesian, forward.n_hidden, forward.n_outputs or 1)

    @property
    def fixed(self) -> bool:
        """Whether the last layer stays as it is, so that its outputs are handed out to the classes of a task."""
        return not self.shared and self.head is None and not self.alike

    def meta_parameters(self, weights: Params, before: Params | None = None) -> Params:
        """Add to the weights what is learned with them; of a head that all classes share one class is kept."""
        shared = {name: value[:1].clone() if name in self.alike else value for name, value in weights.items()}
        if self.exponent is None:
            like = next(iter(weights.values()))
            shared[EXPONENT] = like.new_zeros(())
            if self.shared:
                shared[LOG_WEIGHTS] = like.new_zeros(self.n_outputs)
        return super().meta_parameters(shared, before)

    def start(self, meta: Params, rows: Rows | None = None) -> Params:
        """Return where a task starts, with as many classes as its rows have."""
        start = super().start(meta, rows)
        n_classes = self.n_outputs if rows is None else rows.y.shape[-1]
        for name in self.alike:
            start[name] = start[name].expand(n_classes, *start[name].shape[1:])
        if self.head is not None and not self.shared:
            start = self.head.spread(start, n_classes)
        return start

    def support(self, meta: Params, rows: Rows) -> Rows:
        """Return support rows with the weights of their classes."""
        if self.exponent is None:
            return weigh_classes(rows, meta[EXPONENT], meta.get(LOG_WEIGHTS))
        if self.label_weights is not None:
            return weigh_classes(rows, 0.0, self._logarithms(rows))
        return weigh_classes(rows, self.exponent) if self.exponent else rows

    def query(self, rows: Rows) -> Rows:
        """Return query rows with the weights of their classes."""
        if self.balanced or self.label_weights is not None:
            return weigh_classes(
                rows, 1.0 if self.balanced else 0.0, None if self.label_weights is None else self._logarithms(rows)
            )
        return rows

    def losses(
        self, forward: BatchForward, loss: Loss, meta: Params, episodes: Episodes, differentiated: Differentiated
    ) -> Tensor:
        """Return the meta-loss of each task; its gradient is the meta-gradient."""
        weighed = Episodes(self.support(meta, episodes.support), self.query(episodes.query))
        return super().losses(forward, loss, meta, weighed, differentiated)

    def output(self, forward: BatchForward, params: Params, rows: Rows) -> Tensor:
        """Return logits of rows of adapted tasks."""
        return forward(params, rows) if self.head is None else self.head.logits(forward, params, rows)

    def class_weights(self, meta: Params) -> dict[str, Any] | None:
        """Return the learned weights: exponent, and one for each shared class."""
        if EXPONENT not in meta:
            return None
        weights = meta[LOG_WEIGHTS].exp().tolist() if LOG_WEIGHTS in meta else None
        return {"exponent": float(meta[EXPONENT]), "weights": weights}

    def _logarithms(self, rows: Rows) -> Tensor:
        return torch.tensor(self.label_weights, dtype=rows.X.dtype, device=rows.X.device).log()


def _built_for(forward: ModuleForward) -> int:
    """Return the number of classes a module was built for."""
    if forward.n_outputs is not None:
        return forward.n_outputs
    layer = None if forward.last is None else forward.module.get_submodule(forward.last)
    return layer.out_features if isinstance(layer, nn.Linear) else 2


def _given(weights: dict[Any, float], labels: Any) -> tuple[float, ...]:
    """Return a weight for every label; 1 for those that are not named."""
    if labels is None:
        raise ValueError(
            "class_weight names classes, but each task has labels of its own; set shared_labels=True, or "
            "class_weight='balanced' or 'learned'."
        )
    names = labels.tolist()
    for label, weight in weights.items():
        if label not in names:
            raise ValueError(f"class_weight: there is no class {label!r}; there are {names[:20]}.")
        if not 0 < weight < float("inf"):
            raise ValueError(f"class_weight: the weight of {label!r} must be positive and finite, got {weight!r}.")
    return tuple(float(weights.get(label, 1.0)) for label in names)


@dataclass(frozen=True)
class ClassNetwork(Network):
    """A network whose outputs are logits.

    Attributes
    ----------
    labels : ndarray or None
        All labels, sorted, where they mean the same in every task.
    """

    labels: NDArray[Any] | None

    @property
    def loss(self) -> Loss:
        """The cross-entropy."""
        return cross_entropy

    def probabilities(
        self, adaptation: ClassAdaptation, params: Params, X: NDArray[Any], n_classes: int
    ) -> NDArray[Any]:
        """Return probabilities of the classes for rows of one task, of shape (n_rows, n_classes)."""
        wide, rows = self.widened(params, X)
        one = {name: value[None] for name, value in wide.items()}
        blank = rows.new_ones(1, len(rows))
        with torch.no_grad():
            logits = adaptation.output(looped(self.forward), one, Rows(rows[None], blank[..., None], blank))[0]
        self.finite(logits, X)
        return as_probabilities(logits[:, :n_classes])  # further outputs stand for nothing

    def targets(self, codes: NDArray[np.intp], n_classes: int, n_outputs: int) -> Tensor:
        """Return indicators of the classes of rows of one task; further outputs stand for none."""
        outputs = np.arange(n_outputs)
        return indicators(codes, np.where(outputs < n_classes, outputs, -1)).to(self.device)


def as_probabilities(logits: Tensor) -> NDArray[Any]:
    """Return softmax over classes, in double precision."""
    probabilities: NDArray[Any] = torch.softmax(logits.double(), dim=-1).cpu().numpy()
    return probabilities


def indicators(codes: NDArray[np.intp], outputs: NDArray[np.intp]) -> Tensor:
    """Return 1 for the output of a row, 0 for another one of its task, -1 for one that stands for no class.

    Parameters
    ----------
    codes : ndarray of int, shape (..., n_rows)
        The output each row belongs to.
    outputs : ndarray of int, shape (..., n_outputs)
        The class each output stands for; -1 for none.

    Returns
    -------
    Tensor of shape (..., n_rows, n_outputs)
    """
    of_row = (codes[..., None] == np.arange(outputs.shape[-1])).astype(np.float32)
    return torch.from_numpy(np.where(outputs[..., None, :] < 0, np.float32(-1), of_row))


class _Repeated(Batches):
    """Batches of more episodes than there are tasks."""

    def __next__(self) -> NDArray[np.intp]:
        rounds = -(-self.size // self.n_tasks)
        return np.concatenate([self.rng.permutation(self.n_tasks) for _ in range(rounds)])[: self.size]


class ClassSampler(EpisodeSampler):
    """Tasks with labels to predict.

    Parameters
    ----------
    network, tasks, adaptation, rng
        As :class:`EpisodeSampler` takes them.
    classes : Classes
    drawing : Drawing
    training : bool
        Whether classes take outputs in random order.
    """

    network: ClassNetwork

    def __init__(
        self,
        network: ClassNetwork,
        tasks: TaskSet,
        adaptation: ClassAdaptation,
        rng: np.random.Generator,
        classes: Classes,
        drawing: Drawing,
        *,
        training: bool,
    ) -> None:
        super().__init__(network, tasks, adaptation, rng)
        drawing.check(tasks, classes)
        most = int(classes.counts.max()) if drawing.n_way is None else drawing.n_way
        if adaptation.fixed and most > adaptation.n_outputs:
            raise TaskError(
                f"task {self._name(int(np.argmax(classes.counts)))!r}: it has {most} classes, but the model has "
                f"{adaptation.n_outputs} outputs, since its last layer stays as it is."
            )
        # outputs beyond the classes of a batch stand for nothing
        self.n_outputs = adaptation.n_outputs if adaptation.fixed else 0
        self.classes, self.drawing, self.training = classes, drawing, training

    def batches(self, size: int) -> Batches:
        """Task numbers of one meta-step after the other; a task that gives many episodes may come often."""
        if self.drawing.n_way is None or size <= len(self.tasks):
            return super().batches(size)
        return _Repeated(len(self.tasks), size, self.rng)

    def episodes(self, chosen: NDArray[np.intp]) -> Episodes:
        """Split the chosen tasks anew."""
        split = self._split(chosen)
        self.require_support(split.rows, chosen, training=self.training)
        return self._gathered(split)

    def _split(self, chosen: NDArray[np.intp]) -> ClassSplit:
        split = split_classes(self.tasks, self.classes, chosen, self.drawing, self.rng, shuffled=self.training)
        missing = max(0, self.n_outputs - split.outputs.shape[1])
        return split._replace(outputs=np.pad(split.outputs, ((0, 0), (0, missing)), constant_values=-1))

    def _gathered(self, split: ClassSplit) -> Episodes:
        rows, dtype = split.rows, self.network.dtype
        support, query = (
            indicators(codes, split.outputs).to(self._X.device, dtype) for codes in (split.support, split.query)
        )
        return Episodes(
            self.rows(rows.support, rows.support_mask, support), self.rows(rows.query, rows.query_mask, query)
        )

    def query_features(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        """Return features of query rows in the dtype they are predicted in; images are left as they are."""
        return self.tasks.X[rows] if self.tasks.X.ndim > 2 else super().query_features(rows)

    def _query_logits(
        self, meta: Params, batching: str, *, verbose: bool = False
    ) -> Iterator[tuple[NDArray[np.intp], ClassSplit, Tensor]]:
        """Yield some tasks, their split, and the logits of their query rows after adapting to the support."""
        forward = batch_forward(self.network, batching)
        overshot = 0
        for chosen in progress(self.chunks(), verbose, "tasks scored", "task", len(self.tasks), len):
            split = self._split(chosen)
            self.require_support(split.rows, chosen, training=False)
            episodes = self._gathered(split)
            logits, lowered = self.adapted_outputs(chosen, split.rows, episodes.support, meta, forward)
            overshot += lowered
            absent = torch.from_numpy(split.outputs[np.nonzero(split.rows.query_mask)[0]] < 0)
            yield chosen, split, logits.masked_fill(absent, -torch.inf)
        self.warn_of(overshot, meta)

    def query_probabilities(
        self, meta: Params, batching: str, n_classes: int
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Adapt to the support of every task and predict probabilities of its query, where labels are shared.

        Returns
        -------
        probabilities : ndarray of shape (n_query_rows, n_classes)
        rows : ndarray of shape (n_query_rows,)
            Their row numbers in the TaskSet.
        """
        parts, numbers = [], []
        for _, split, logits in self._query_logits(meta, batching):
            real = split.rows.query_mask
            outputs = split.outputs[np.nonzero(real)[0]]
            row, column = np.nonzero(outputs >= 0)
            probabilities = np.zeros((len(outputs), n_classes))
            probabilities[row, outputs[row, column]] = as_probabilities(logits)[row, column]
            parts.append(probabilities)
            numbers.append(split.rows.query[real])
        return np.concatenate(parts), np.concatenate(numbers)

    def predict_queries(self, meta: Params, batching: str, *, verbose: bool = False) -> Predicted:
        """Adapt to the support of every task and predict its query; `verbose` shows a progress bar."""
        parts = []
        for chosen, split, logits in self._query_logits(meta, batching, verbose=verbose):
            real = split.rows.query_mask
            place = np.nonzero(real)[0]
            best = logits.argmax(dim=1).numpy()
            parts.append(
                Predicted(
                    split.outputs[place, split.query[real]],
                    split.outputs[place, best],
                    split.rows.query[real],
                    chosen[place],
                )
            )
        return Predicted(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def draws(self, batches: Batches) -> CompilerDraws:
        """Return shapes and draws of episodes, which hold copies of their rows: targets are those of the episode."""
        n_support, n_query, n_outputs = class_widths(self.tasks, self.classes, self.drawing)
        n_outputs = max(n_outputs, self.n_outputs)
        shapes = EpisodeShapes(
            RowsShape(n_support, True), RowsShape(n_query, True), tuple(self._X.shape[1:]), n_outputs
        )

        def draw(count: int) -> EpisodeDraws:
            steps = [self.episodes(next(batches)) for _ in range(count)]
            sides, counts, numbers, first = [], [], [], 0
            for rows, length in (
                ([step.support for step in steps], n_support),
                ([step.query for step in steps], n_query),
            ):
                n_tasks = len(rows[0].X)
                padded = [_padded(of_step, length, n_outputs) for of_step in rows]
                sides.append([torch.cat([arrays[part].flatten(0, 1) for arrays in padded]) for part in (0, 1)])
                counts.append(np.stack([of_step.mask.sum(dim=1).numpy() for of_step in rows]).astype(np.int32))
                numbers.append(
                    first + np.arange(count * n_tasks * length, dtype=np.int32).reshape(count, n_tasks, length)
                )
                first += count * n_tasks * length
            X, y = (torch.cat(parts) for parts in zip(*sides, strict=True))
            return EpisodeDraws(numbers[0], counts[0], numbers[1], counts[1], (X, y))

        rows = min(batches.size, MOST_TASKS) * (shapes.support.rows + shapes.query.rows)
        most_at_once = max(1, MOST_NUMBERS // (rows * (math.prod(shapes.features) + shapes.targets)))
        return CompilerDraws(shapes, draw, batches.size, most_at_once)


def _padded(rows: Rows, length: int, n_outputs: int) -> tuple[Tensor, Tensor]:
    """Return X and y with so many rows, the first over again, and so many outputs, of which the last are no class."""
    more = length - rows.X.shape[1]
    X, y = (
        torch.cat([part, part[:, :1].expand(-1, more, *part.shape[2:])], dim=1) if more else part
        for part in (rows.X, rows.y)
    )
    return X, torch.nn.functional.pad(y, (0, n_outputs - y.shape[2]), value=-1.0)


@dataclass(frozen=True)
class Classification:
    """Tasks with labels to predict: their network, adaptation and episodes.

    Attributes
    ----------
    support_size, k_shot, n_query, n_way, split, shared_labels, balanced, class_weight, check_plausibility
        As :class:`MAMLClassifier` takes them.
    object_rows : bool
        Whether rows are objects, for a collate_fn.
    """

    support_size: Any
    k_shot: Any
    n_query: int | None
    n_way: int | None
    split: str
    shared_labels: Any
    balanced: bool
    class_weight: Any
    check_plausibility: bool
    object_rows: bool = False

    def read(self, X: Any, y: Any, groups: Any) -> TaskSet:
        """Return the tasks that a fit or a score was given."""
        tasks = as_tasks(X, y, groups, labels=True, alone=self.n_way is not None, object_rows=self.object_rows)
        return require_channels_first(tasks, self.check_plausibility)

    def network(
        self, settings: NetworkSettings, training: TaskSet, tasks: TaskSet, before: ClassNetwork | None
    ) -> ClassNetwork:
        """Return the network that the settings ask for; a warm start goes on from the one before.

        Initial weights are drawn from torch's global generator.
        """
        if self.n_way is not None and self.shared_labels is True:
            raise ValueError("n_way draws classes, which then mean nothing beyond their episode: shared_labels=False.")
        shared = share_labels(tasks) if self.shared_labels == "auto" and self.n_way is None else self.shared_labels
        classes = encode(tasks, shared is True)
        n_outputs = int(classes.counts.max()) if self.n_way is None else self.n_way
        labels = classes.labels if classes.shared else None
        if before is not None:
            _require_same_labels(before, labels, n_outputs)
            return replace(deepcopy(before), collate_fn=settings.collate_fn)
        forward, parts = build_parts(settings, training, n_outputs)
        if labels is None:
            forward = _with_any_number(settings, forward)
        return ClassNetwork(forward, **parts, labels=labels)

    def adaptation(self, inner: InnerSettings, meta: MetaSettings, network: ClassNetwork) -> ClassAdaptation:
        """Return the adaptation that the settings ask for.

        Raises
        ------
        ValueError
            When settings contradict each other, or name no parameter of the network.
        """
        forward, weights = network.forward, self.class_weight
        alike = head_names(forward) if forward.n_outputs is None and not isinstance(forward, HeadForward) else ()
        adaptation = ClassAdaptation.of(
            inner,
            meta,
            forward,
            alike=alike,
            n_outputs=_built_for(forward),
            exponent={"balanced": 1.0, "learned": None}.get(weights, 0.0) if isinstance(weights, str) else 0.0,
            label_weights=None,
            balanced=bool(self.balanced) or weights == "balanced",
            shared=network.labels is not None,
        )
        if not set(alike) <= set(adaptation.moving):
            raise ValueError(
                f"adapt_layers={inner.adapt_layers!r} was set after the fit, in which all classes of a task started "
                "alike; fit anew, without warm_start."
            )
        if isinstance(weights, dict):
            return replace(adaptation, label_weights=_given(weights, network.labels))
        return adaptation

    def sampler(
        self,
        network: ClassNetwork,
        tasks: TaskSet,
        adaptation: ClassAdaptation,
        rng: np.random.Generator,
        *,
        training: bool,
    ) -> ClassSampler:
        """Return what episodes are drawn from."""
        classes = encode(tasks, False) if network.labels is None else encode_known(tasks, network.labels)
        drawing = Drawing(self.support_size, self.k_shot, self.n_query, self.n_way, self.split)
        return ClassSampler(network, tasks, adaptation, rng, classes, drawing, training=training)

    def learned(
        self, network: ClassNetwork, adaptation: ClassAdaptation, params: Params, tasks: TaskSet, seed: int
    ) -> dict[str, Any]:
        """Return the attributes that a fit sets beside those of every kind."""
        shared = {} if network.labels is None else {"classes_": network.labels}
        return {"shared_labels_": bool(shared), **shared, "class_weight_": adaptation.class_weights(params)}

    def guard_answers(
        self, network: ClassNetwork, adaptation: ClassAdaptation, params: Params, batching: str
    ) -> Callable[[TaskSet], Answers]:
        """Return what adapts to the support of tasks and predicts their query, for the guard."""
        return partial(query_answers, network, adaptation, params, batching)

    def spread(self, network: ClassNetwork, tasks: TaskSet) -> NDArray[np.float64]:
        """Return the scale of every probability, for the guard."""
        assert network.labels is not None
        return np.ones(len(network.labels))


def query_answers(
    network: ClassNetwork, adaptation: ClassAdaptation, meta: Params, batching: str, tasks: TaskSet
) -> Answers:
    """Adapt to the support of every task and predict probabilities of its query, for the guard."""
    labels = network.labels
    assert labels is not None
    classes, rng = encode_known(tasks, labels), np.random.default_rng(0)
    sampler = ClassSampler(network, tasks, adaptation, rng, classes, Drawing(None), training=False)
    adapted, rows = sampler.query_probabilities(meta, batching, len(labels))
    population = network.probabilities(adaptation, adaptation.zero_shot(meta), tasks.X[rows], len(labels))
    truth = (tasks.y[rows].reshape(-1, 1) == labels).astype(np.float64)
    return Answers(truth, adapted, population, rows)


def _require_same_labels(before: ClassNetwork, labels: NDArray[Any] | None, n_outputs: int) -> None:
    """Raise a TaskError where a warm start meets other classes than the fit before."""
    had, have = (None if values is None else values.tolist() for values in (before.labels, labels))
    if had != have:
        had, have = ("labels of each task's own" if values is None else values for values in (had, have))
        raise TaskError(f"warm_start goes on from {had}, but the tasks have {have}; fit a new model.")
    if before.forward.n_outputs is not None and before.forward.n_outputs < n_outputs:
        raise TaskError(
            f"warm_start goes on from {before.forward.n_outputs} classes, but the tasks have {n_outputs}; fit a new "
            "model."
        )


def _with_any_number(settings: NetworkSettings, forward: ModuleForward) -> ModuleForward:
    """Let the task say how many classes there are, where all of them start alike."""
    if isinstance(forward, HeadForward):
        return HeadForward(forward.module, None, forward.n_hidden)
    names: Sequence[str] = () if settings.context_dim else head_names(forward)
    if names and set(names) <= set(moving_names(forward, settings.adapt_layers)):
        return ModuleForward(forward.module, None, forward.last)
    return forward
