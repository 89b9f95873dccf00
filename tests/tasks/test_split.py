import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaest import Task, TaskError, TaskSet
from metaest.tasks import draw_batches, order_rows, split_tasks, widths
from problems import ragged_tasks


def rows(split, i):
    support = split.support[i][split.support_mask[i]]
    query = split.query[i][split.query_mask[i]]
    return support, query


@given(
    st.one_of(st.none(), st.integers(0, 12), st.tuples(st.integers(0, 3), st.integers(3, 9))),
    st.sampled_from(["random", "first"]),
    st.integers(0, 99),
)
def test_support_and_query_share_out_the_rows(size, split, seed):
    tasks = ragged_tasks()
    chosen = np.arange(len(tasks))
    drawn = split_tasks(tasks, chosen, size, split, np.random.default_rng(seed))
    for i in chosen:
        support, query = rows(drawn, i)
        own = np.arange(tasks.offsets[i], tasks.offsets[i + 1])
        assert sorted([*support, *query]) == own.tolist()
        assert len(query) >= 1
        assert np.isin(drawn.support[i], own).all(), "padding is a valid row of the same task"
        assert np.isin(drawn.query[i], own).all()
        if size is None:
            assert len(support) == min(len(own) // 2, 10)
        elif isinstance(size, int):
            assert len(support) == min(size, len(own) - 1)
        else:
            assert min(size[0], len(own) - 1) <= len(support) <= size[1]
        if split == "first":
            assert support.tolist() == own[: len(support)].tolist()


def test_own_support_comes_first():
    tasks = TaskSet(
        [Task("a", np.zeros((5, 1)), np.arange(5), support=[4, 1]), Task("b", np.zeros((5, 1)), np.arange(5))]
    )
    drawn = split_tasks(tasks, np.array([0, 1]), 3, "random", np.random.default_rng(0))
    assert set(rows(drawn, 0)[0]) == {1, 4}
    assert len(rows(drawn, 1)[0]) == 3


def test_an_empty_own_support_is_kept():
    drawn = split_tasks(TaskSet([Task("a", [[0.0], [1.0]], [0, 1], support=[])]), np.array([0]), 1, "first", None)
    assert drawn.support_mask.sum() == 0


def test_one_row_serves_as_query_only():
    drawn = split_tasks(TaskSet([([[0.0]], [1.0])]), np.array([0]), 5, "random", np.random.default_rng(0))
    assert drawn.support_mask.sum() == 0
    assert drawn.query_mask.sum() == 1


def test_ranges_are_drawn_anew_within_their_bounds():
    tasks = TaskSet([(np.zeros((20, 1)), np.zeros(20))])
    for size in (range(2, 5), (2, 4)):
        drawn = split_tasks(tasks, np.zeros(200, int), size, "random", np.random.default_rng(0))
        assert set(drawn.support_mask.sum(axis=1)) == {2, 3, 4}


def test_every_row_is_drawn_equally_often():
    tasks = TaskSet([(np.zeros((6, 1)), np.zeros(6))])
    drawn = split_tasks(tasks, np.zeros(6000, int), 2, "random", np.random.default_rng(0))
    counts = np.bincount(drawn.support.ravel(), minlength=6)
    assert abs(counts - 2000).max() < 5 * np.sqrt(2000 * 2 / 3)


def test_support_of_all_rows_is_an_error():
    with pytest.raises(TaskError, match="task 'a': its support holds all 2 rows"):
        split_tasks(TaskSet([Task("a", [[0.0], [1.0]], [0, 1], support=[0, 1])]), np.array([0]), 1, "first", None)


@pytest.mark.parametrize("size", [-1, 1.5, "3", (3, 1), (1, 2, 3), range(0), True, (-1, 2)])
def test_bad_support_size(size):
    with pytest.raises(ValueError, match="support_size"):
        split_tasks(ragged_tasks(), np.arange(2), size, "random", np.random.default_rng(0))


def test_bad_split():
    with pytest.raises(ValueError, match="split must be"):
        split_tasks(ragged_tasks(), np.arange(2), 1, "last", np.random.default_rng(0))


@pytest.mark.parametrize("split", ["random", "first"])
@pytest.mark.parametrize("support_size", [None, 2, (0, 3)])
def test_splitting_batches_at_once_is_splitting_them_one_after_the_other(split, support_size):
    rng = np.random.default_rng(0)
    tasks = TaskSet(
        [
            Task(i, rng.normal(size=(3 + i, 1)), rng.normal(size=3 + i), support=[1, 0] if i % 4 == 0 else None)
            for i in range(9)
        ]
    )
    batches = [rng.permutation(9)[:3] for _ in range(5)]
    one, many = np.random.default_rng(1), np.random.default_rng(1)
    expected = [split_tasks(tasks, chosen, support_size, split, one) for chosen in batches]
    left = list(batches)

    def some(most):
        taken = [left.pop(0) for _ in range(min(most, 2, len(left)))]
        return np.stack(taken)

    ordered = order_rows(tasks, draw_batches(tasks, some, 5, support_size, split, many))
    for i, each in enumerate(expected):
        own = slice(3 * i, 3 * i + 3)
        for side in ("support", "query"):
            mask = getattr(each, f"{side}_mask")
            width = mask.shape[1]
            np.testing.assert_array_equal(getattr(ordered, f"{side}_mask")[own, :width], mask)
            assert not getattr(ordered, f"{side}_mask")[own, width:].any()
            np.testing.assert_array_equal(getattr(ordered, side)[own, :width][mask], getattr(each, side)[mask])
    assert one.random() == many.random()
    support, query = widths(tasks, support_size, split)
    sizes = [own.sum(axis=1) for each in expected for own in (each.support_mask,)]
    assert support[0] <= np.min(sizes) <= np.max(sizes) <= support[1]
    sizes = [own.sum(axis=1) for each in expected for own in (each.query_mask,)]
    assert query[0] <= np.min(sizes) <= np.max(sizes) <= query[1]
