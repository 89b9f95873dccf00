"""The axes in which the plots of all domains draw."""

from typing import Any

__all__ = ["current_axes"]


def current_axes(ax: Any = None, *, grid: bool = True) -> Any:
    """Return the axes to draw in, those given or the current ones of pyplot, without a frame at the top and right."""
    if ax is not None and not hasattr(ax, "spines"):
        raise TypeError(f"ax must be one Axes of matplotlib, got {type(ax).__name__}.")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.gca()
    ax.spines[["top", "right"]].set_visible(False)
    if grid:
        ax.grid(alpha=0.25)
    return ax
