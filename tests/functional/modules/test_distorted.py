"""DistortedConvNet: images distorted in training, and seen by five looks afterwards."""

import pytest
import torch

from metaest.functional.modules.distorted import LOOKS, DistortedConvNet, distorted, moved


@pytest.mark.parametrize(
    ("shape", "channels"), [((1, 8, 8), [32, 64]), ((3, 24, 32), [16, 32, 64]), ((1, 28, 28), [16, 32, 64])]
)
def test_blocks_follow_from_the_size_and_end_in_a_few_pixels(shape, channels):
    network = DistortedConvNet(shape, 5).eval()
    assert [layer.out_channels for layer in network.convolutions] == channels
    assert network.head.in_features <= 16 * channels[-1]
    assert network(torch.rand(3, *shape)).shape == (3, 5)


def test_rows_that_are_no_images_are_refused():
    with pytest.raises(ValueError, match=r"\(channels, height, width\) are wanted, got rows of shape \(4,\)"):
        DistortedConvNet((4,), 2)


def test_an_answer_is_the_mean_of_five_looks_and_no_row_sees_another():
    torch.manual_seed(0)
    network, X = DistortedConvNet((1, 12, 12), 3).double().eval(), torch.rand(4, 1, 12, 12).double()
    looks = [X, *(moved(X, *look) for look in LOOKS)]
    expected = torch.stack([network.head(network._features(look)) for look in looks]).mean(dim=0)
    assert torch.allclose(network(X), expected)
    assert torch.allclose(network(X[1:2]), network(X)[1:2])
    assert torch.equal(network(X), network(X))


def test_training_distorts_every_image_by_the_global_generator():
    X = torch.rand(1, 1, 12, 12).expand(2, -1, -1, -1)
    torch.manual_seed(0)
    one = distorted(X)
    assert not torch.allclose(one[0], one[1])
    torch.manual_seed(0)
    assert torch.equal(distorted(X), one)
    network = DistortedConvNet((1, 12, 12), 2).train()
    assert not torch.allclose(network(X)[0], network(X)[1])


def test_looks_turn_and_move():
    X = torch.zeros(1, 1, 5, 5).double()
    X[..., 2, 2] = 1
    assert torch.allclose(moved(X, 0.0, 0.0, 0.0), X)
    # two fifths of half the size are one pixel: what is shown lies to the right, so that the point goes to the left
    assert torch.allclose(moved(X, 0.0, 0.4, 0.0)[0, 0, 2], torch.eye(5).double()[1])
    assert torch.allclose(moved(X, 0.0, 0.0, 0.4)[0, 0, :, 2], torch.eye(5).double()[1])
