import copy
import pickle

import pytest
import torch
from torch import nn

from metaest.functional import MLP, ModuleForward, Rows, looped, mapped, repeat_for_tasks


def test_shapes_are_checked():
    assert ModuleForward(MLP(2, 1, [3], "tanh"), 1)(
        dict(MLP(2, 1, [3], "tanh").named_parameters()), torch.ones(4, 2)
    ).shape == (4, 1)
    forward = ModuleForward(MLP(2, 3, [3], "tanh"), 1)
    with pytest.raises(ValueError, match=r"returned shape \(4, 3\) for 4 rows and 1 target; \(4, 1\) is wanted"):
        forward(forward.parameters(), torch.ones(4, 2))


def test_what_is_no_tensor_is_refused():
    class Pair(nn.Linear):
        def forward(self, X):
            return X, X

    forward = ModuleForward(Pair(1, 1), 1)
    with pytest.raises(TypeError, match="returned tuple"):
        forward(forward.parameters(), torch.ones(4, 1))


def test_frozen_parameters_and_buffers_are_constants():
    module = nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1))
    module[0].requires_grad_(False)
    module.register_buffer("offset", torch.ones(1))
    forward = ModuleForward(module, 1)
    assert set(forward.parameters()) == {"1.weight", "1.bias"}
    # float64 rows: constants follow the dtype
    params = {name: value.double() for name, value in forward.parameters().items()}
    assert forward(params, torch.ones(3, 1, dtype=torch.float64)).dtype == torch.float64


def test_the_module_keeps_its_own_weights():
    module = MLP(1, 1, [2], "tanh")
    before = copy.deepcopy(module.state_dict())
    forward = ModuleForward(module, 1)
    forward({name: value + 1 for name, value in forward.parameters().items()}, torch.ones(3, 1))
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_pickle_and_copy_leave_the_lock_behind():
    forward = ModuleForward(MLP(1, 1, [2], "tanh"), 1)
    X = torch.ones(3, 1)
    for other in (pickle.loads(pickle.dumps(forward)), copy.deepcopy(forward)):
        assert torch.equal(other(forward.parameters(), X), forward(forward.parameters(), X))


def test_each_task_gets_its_own_dropout():
    module = nn.Sequential(nn.Linear(1, 200), nn.Dropout(0.5), nn.Linear(200, 1))
    forward = ModuleForward(module, 1)
    rows = Rows(torch.ones(2, 1, 1), torch.zeros(2, 1, 1), torch.ones(2, 1))
    one, two = mapped(forward)(repeat_for_tasks(forward.parameters(), 2), rows)
    assert not torch.equal(one, two)


def test_the_loop_leaves_padding_out():
    seen = []

    class Spy(nn.Linear):
        def forward(self, X):
            seen.append(X.shape[0])
            return super().forward(X)

    forward = ModuleForward(Spy(1, 1), 1)
    mask = torch.tensor([[1.0, 0, 0], [1, 1, 1], [0, 0, 0]])
    rows = Rows(torch.ones(3, 3, 1), torch.zeros(3, 3, 1), mask)
    assert looped(forward)(repeat_for_tasks(forward.parameters(), 3), rows).shape == (3, 3, 1)
    assert seen == [1, 3, 1]


def test_shared_weights_stay_shared():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2, bias=False)
            self.second = nn.Linear(2, 2, bias=False)
            self.second.weight = self.first.weight

        def forward(self, X):
            return self.second(self.first(X))[:, :1]

    forward = ModuleForward(Tied(), 1)
    assert list(forward.parameters()) == ["first.weight"]
    double = forward({"first.weight": 2 * torch.eye(2)}, torch.ones(1, 2))
    assert float(double) == 4.0
