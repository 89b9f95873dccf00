"""MAMLClassifier: labels as the user writes them, every variant, and what is refused."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from agreement import assert_agree
from episodes import numeric_gradient, relative_error
from metaest import EquationRegressor, MAMLClassifier, MAMLRegressor, Task, TaskError, TaskSet, make_episodes
from metaest.estimators.networks.settings import Settings
from metaest.estimators.networks.training import meta_train
from metaest.functional import QueryLoss, looped, mapped
from metaest.functional.modules.normalization import is_statistic
from variants import VARIANTS

FEW = {"hidden_layer_sizes": (8, 8), "max_iter": 6, "meta_batch_size": 6, "random_state": 0}
X, Y = load_digits(return_X_y=True)


def own_labels(n_tasks=8, seed=0):
    """Tasks of two to four classes with names of their own; unequal counts."""
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        n_classes = 2 + i % 3
        y = np.repeat(np.arange(n_classes), 3 + np.arange(n_classes))
        rows = rng.normal(3 * rng.standard_normal((n_classes, 2))[y], 0.5)
        tasks.append(Task(f"t{i}", rows, np.char.add(f"t{i} class ", y.astype(str))))
    return TaskSet(tasks)


def same_labels(n_tasks=8, seed=0):
    rng = np.random.default_rng(seed)
    tasks = []
    for i in range(n_tasks):
        y = np.array(["ill", "well"])[rng.integers(2, size=12)]
        rows = rng.standard_normal((12, 2)) + 2.0 * (y == "ill")[:, None] + rng.standard_normal(2)
        tasks.append(Task(i, rows, y))
    return TaskSet(tasks)


# classes have no head that is learned by the evidence
SETTINGS = {name: own for name, own in VARIANTS.items() if name not in ("some layers", "evidence")}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("variant", SETTINGS)
@pytest.mark.parametrize("make", [own_labels, same_labels])
def test_the_contract_of_every_variant(variant, make):
    tasks = make()
    model = MAMLClassifier(**{**FEW, **SETTINGS[variant]})
    model.fit(tasks)
    assert model.shared_labels_ == (make is same_labels)
    task = tasks[2]
    adapted = model.adapt(task.X, task.y)
    assert adapted.classes_.tolist() == sorted(set(task.y))
    probabilities = adapted.predict_proba(task.X)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert set(adapted.predict(task.X)) <= set(task.y)
    np.testing.assert_allclose(adapted.predict_proba(task.X[:1]), probabilities[:1], rtol=1e-12)
    again = pickle.loads(pickle.dumps(adapted)).predict_proba(task.X)
    np.testing.assert_array_equal(again, probabilities)
    assert 0 <= model.score(tasks) <= 1
    assert model.score(tasks) == model.score(tasks)


def test_neither_names_nor_order_of_own_labels_matter():
    tasks = own_labels()
    model = MAMLClassifier(**FEW, dtype="float64").fit(tasks)
    task = tasks[2]
    base = model.adapt(task.X, task.y)
    renamed = {label: f"{9 - i}" for i, label in enumerate(base.classes_)}
    other = model.adapt(task.X, [renamed[label] for label in task.y])
    order = [other.classes_.tolist().index(renamed[label]) for label in base.classes_]
    np.testing.assert_allclose(other.predict_proba(task.X)[:, order], base.predict_proba(task.X), rtol=1e-9)


def test_more_classes_than_in_the_fit():
    model = MAMLClassifier(**FEW, n_way=3, k_shot=2, n_query=3).fit(X[Y < 5], Y[Y < 5])
    rows = np.concatenate([np.flatnonzero(own == Y)[:3] for own in range(7)])
    adapted = model.adapt(X[rows], Y[rows])
    assert adapted.predict_proba(X[:4]).shape == (4, 7)
    assert adapted.module_(model.module_.layers[0].weight.new_zeros(2, 64)).shape == (2, 7)
    assert adapted.classes_.dtype == Y.dtype


def test_new_rows_may_bring_new_classes():
    model = MAMLClassifier(**FEW).fit(own_labels())
    task = own_labels()[2]
    first = np.char.endswith(task.y, "0") | np.char.endswith(task.y, "1")
    step = model.adapt(task.X[first], task.y[first]).partial_adapt(task.X[~first], task.y[~first])
    order = np.argsort(~first, kind="stable")
    whole = model.adapt(task.X[order], task.y[order])
    assert_agree(step.predict_proba(task.X), whole.predict_proba(task.X))


@pytest.mark.parametrize(
    "wrong", [{"k_shot": 10**400}, {"n_query": 10**400}, {"k_shot": np.uint64(2**63)}, {"n_way": 1}]
)
def test_episodes_of_impossible_numbers_are_refused_in_one_sentence(wrong):
    y = np.arange(8) % 2
    with pytest.raises(ValueError, match="must be a whole number from") as refused:
        make_episodes(np.eye(8), y, **{"n_way": 2, "k_shot": 1, "n_query": 1, **wrong})
    assert len(str(refused.value)) < 200


def test_episodes_have_the_rows_they_should():
    episodes = make_episodes(X, Y, 5, 2, 7, n_episodes=12, random_state=0)
    for task in episodes:
        labels, counts = np.unique(task.y, return_counts=True)
        assert len(labels) == 5
        assert (counts == 9).all()
        assert sorted(np.unique(task.y[task.support], return_counts=True)[1]) == [2] * 5
    one, other = (make_episodes(X, Y, 5, 1, 1, n_episodes=3, random_state=1).X for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_images_go_through_a_convolutional_network():
    images = X.reshape(-1, 1, 8, 8)
    model = MAMLClassifier(
        n_way=3, k_shot=(1, 3), n_query=3, hidden_layer_sizes=(4, 4), max_iter=3, meta_batch_size=2, random_state=0
    ).fit(images[Y < 5], Y[Y < 5])
    assert model.batching_ == "loop"
    adapted = model.adapt(images[[0, 1, 10, 11]], Y[[0, 1, 10, 11]])
    assert adapted.predict(images[:5]).shape == (5,)
    with pytest.raises(TaskError, match=r"rows of X have shape \(64,\).*expecting \(1, 8, 8\)"):
        adapted.predict(X[:3])


@pytest.mark.parametrize("class_weight", [None, "balanced", "learned", {"ill": 3.0}])
def test_weights_of_classes(class_weight):
    tasks = same_labels()
    model = MAMLClassifier(**FEW, class_weight=class_weight, balanced=True, scoring="balanced_accuracy").fit(tasks)
    assert 0 <= model.score(tasks) <= 1
    if class_weight == "learned":
        assert model.class_weight_["exponent"] != 0
        assert len(model.class_weight_["weights"]) == 2
    each = model.task_scores(tasks)
    assert each.index.tolist() == list(range(8))
    assert each.name == "balanced_accuracy"


ONE = Task("one", [[0.0, 0.0], [1.0, 1.0]], ["a", "a"])
LACKS = Task("lacks", np.eye(4, 2), ["a", "b", "a", "b"], support=[0, 2])


@pytest.mark.parametrize(
    ("settings", "tasks", "error", "message"),
    [
        ({"n_way": 4}, own_labels(), TaskError, "task 't0': it has 2 classes, fewer than n_way=4"),
        ({}, [*own_labels(), ONE], TaskError, "task 'one': it has one class only, 'a'"),
        ({}, [*own_labels(), LACKS], TaskError, "task 'lacks': class 'b' has no support row"),
        ({}, [ONE], TaskError, "more than one class"),
        ({}, [Task("n", [[0.0], [1.0]], [0, 1]), Task("w", [[0.0], [1.0]], ["a", "b"])], TaskError, "labels of mixed types"),
        ({}, [([[0.0], [1.0]], [0.5, 0.7])], TaskError, "task 0: y is 0.5, which is no label. Unknown label type: continuous"),
        ({"n_way": 2, "shared_labels": True}, same_labels(), ValueError, "n_way draws classes"),
        ({"class_weight": {"dead": 2.0}}, same_labels(), ValueError, "there is no class 'dead'"),
        ({"class_weight": {"t0": 2.0}}, own_labels(), ValueError, "each task has labels of its own"),
        ({"k_shot": (3, 1)}, same_labels(), ValueError, "k_shot must be at least 0 and its range in ascending order"),
        ({"normalization": "batch", "support_size": 1}, same_labels(), TaskError, "needs 2, the task has 1"),
    ],
)  # fmt: skip
def test_what_is_refused_in_a_fit(settings, tasks, error, message):
    with pytest.raises(error, match=message):
        MAMLClassifier(**{**FEW, **settings}).fit(tasks)


def test_what_is_refused_afterwards():
    own, same = MAMLClassifier(**FEW).fit(own_labels()), MAMLClassifier(**FEW).fit(same_labels())
    with pytest.raises(TaskError, match="adapt: the support has one class only, 'a'"):
        own.adapt(np.eye(2), ["a", "a"])
    with pytest.raises(ValueError, match="each task has labels of its own"):
        own.predict(np.eye(2))
    with pytest.raises(TaskError, match="adapt: label 'dead' was not met in the fit"):
        same.adapt(np.eye(2), ["ill", "dead"])
    with pytest.raises(TaskError, match="its labels are numbers, but those of the fit were words"):
        same.adapt(np.eye(2), [0, 1])
    with pytest.raises(TaskError, match="adapt: labels of mixed types"):
        same.adapt(np.eye(2), ["ill", 1])
    with pytest.raises(TaskError, match="adapt: the support has 5 classes, but the model has 4 outputs"):
        MAMLClassifier(**FEW, adapt_layers="body").fit(own_labels()).adapt(np.ones((5, 2)), list("abcde"))
    with pytest.raises(ValueError, match="all classes of a task started alike"):
        own.set_params(adapt_layers="body").adapt(np.eye(2), ["a", "b"])
    for settings, message in (((5, 200, 15), "class .* has .* rows"), ((11, 1, 1), "10 classes, fewer than n_way=11")):
        with pytest.raises(TaskError, match=message):
            make_episodes(X, Y, *settings)


def test_labels_and_images_are_not_for_everyone():
    with pytest.raises(
        TaskError, match="task 't0': column 0 of y holds strings .*, numbers are wanted; MAMLClassifier"
    ):
        MAMLRegressor(max_iter=1).fit(own_labels())
    images = [(np.ones((3, 1, 4, 4)), np.arange(3.0))]
    with pytest.raises(TaskError, match=r"task 0: rows of X have shape \(1, 4, 4\); columns are wanted"):
        EquationRegressor(lambda X, a: a * X[:, 0], {"a": 1.0}).fit(images)


@pytest.mark.parametrize(
    "settings",
    [
        *(SETTINGS[name] for name in ("MAML", "ANIL", "BOIL", "CAVIA", "Meta-SGD", "R2D2", "ALPaCA")),
        {"balanced": True, "class_weight": "learned"},
        {"normalization": "batch"},
    ],
)
@pytest.mark.parametrize("make", [own_labels, same_labels])
def test_meta_gradients_equal_finite_differences(settings, make):
    small = {"hidden_layer_sizes": (4, 3), "activation": "tanh", "inner_steps": 2, "max_iter": 2, "dtype": "float64"}
    model = MAMLClassifier(**{"k_shot": 2, **small, **settings})
    tasks = make()
    settings, kind = Settings.read(model._values()), model.kind
    network, params, *_ = meta_train(kind, settings, tasks, seed=0)
    adaptation = kind.adaptation(settings.inner, settings.meta, network)
    sampler = kind.sampler(network, tasks, adaptation, np.random.default_rng(0), training=True)
    episodes = sampler.episodes(np.arange(3))
    meta = {n: v.detach().clone().requires_grad_() for n, v in params.items() if not is_statistic(n)}

    def loss(batch):
        return adaptation.losses(batch(network.forward), network.loss, meta, episodes, (QueryLoss(), None)).mean()

    values = torch.autograd.grad(loss(mapped), list(meta.values()), materialize_grads=True)
    ours = dict(zip(meta, values, strict=True))
    assert (
        relative_error(ours, numeric_gradient(lambda: loss(mapped), meta, h=1e-6)) < 1e-5
    )  # three units a layer: steep
    values = torch.autograd.grad(loss(looped), list(meta.values()), materialize_grads=True)
    assert relative_error(ours, dict(zip(meta, values, strict=True))) < 1e-9


@pytest.mark.parametrize("variant", ["BOIL", "CAVIA"])
def test_batches_of_fewer_classes_than_outputs(variant):
    tasks = own_labels()
    model = MAMLClassifier(**{**FEW, **SETTINGS[variant], "meta_batch_size": 1}).fit(tasks)
    two = tasks[[i for i, task in enumerate(tasks) if len(set(task.y)) == 2]]
    assert 0 <= model.score(two) <= 1
    five = Task("five", np.eye(10, 2), list("abcde") * 2)
    with pytest.raises(TaskError, match="task 'five': it has 5 classes, but the model has 4 outputs"):
        model.score([five])
