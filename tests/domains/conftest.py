"""Fixtures of plots: no window, and axes beside which nothing else is drawn in."""

import pytest


@pytest.fixture(scope="module")
def no_window():
    """Draw without a screen; the backend of before is put back."""
    plt = pytest.importorskip("matplotlib.pyplot")
    before = plt.get_backend()
    plt.switch_backend("agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


@pytest.fixture
def ax(no_window):
    """The current ones of two axes; a plot that draws in the other ones, or in another figure, fails."""
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, (left, right) = plt.subplots(1, 2)
    plt.sca(right)
    yield right
    assert not left.has_data()
    assert plt.gcf() is figure
    figure.canvas.draw()  # whatever a picture warns of is an error here
    plt.close(figure)
