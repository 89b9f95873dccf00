"""A plausibility check of images: whether their channels come first."""

from metaest.exceptions import TaskError
from metaest.tasks import TaskSet

__all__ = ["require_channels_first"]

# channels of grey, coloured and transparent pictures
PICTURE_CHANNELS = (1, 3, 4)


def require_channels_first(tasks: TaskSet, check: bool) -> TaskSet:
    """Return tasks, and raise where their images seem to have the channels last.

    An image whose last axis is as long as the channels of grey, coloured or transparent pictures (1, 3 or 4), whose
    first is not, and whose first two axes are both longer than the last, is taken for one with the channels last.

    Raises
    ------
    TaskError
        Unless `check` is false.
    """
    shape = tasks.X.shape[1:]
    if not check or len(shape) != 3 or not _seems_channels_last(shape):
        return tasks
    raise TaskError(
        f"task {tasks.name_of(0)!r}: rows of X have shape {shape}, which looks like images with the "
        "channels last; images of shape (channels, height, width) are wanted: X.transpose(0, 3, 1, 2). If these are "
        f"{shape[0]} channels of {shape[1]} x {shape[2]} pixels, set check_plausibility=False."
    )


def _seems_channels_last(shape: tuple[int, ...]) -> bool:
    first, second, last = shape
    return last in PICTURE_CHANNELS and first not in PICTURE_CHANNELS and min(first, second) > last
