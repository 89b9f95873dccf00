"""Progress bars of long work, on standard error; nothing of tqdm is started where none is wanted."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

from tqdm.auto import tqdm

__all__ = ["Bar", "progress"]

T = TypeVar("T")


class _Tqdm(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # tqdm's own thread, which redraws bars that stand still, would stay behind


class Bar:
    """A progress bar, or none; a context manager that takes the bar away at its end.

    Parameters
    ----------
    shown : bool
    total : int, optional
        Units of the whole work, where it is known.
    what : str
        Said in front of the bar.
    unit : str, default="it"

    Examples
    --------
    >>> from metaest.functional.progress import Bar
    >>> with Bar(False, 10, "rows") as bar:
    ...     bar.advance(3)
    """

    def __init__(self, shown: Any, total: int | None, what: str, unit: str = "it") -> None:
        self._shown = bool(shown)
        self._settings: dict[str, Any] = {"total": total, "desc": what, "unit": unit, "leave": False}
        self._bar: Any = None

    def __enter__(self) -> "Bar":
        if self._shown:
            self._bar = _Tqdm(**self._settings)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, count: int = 1) -> None:
        """Show that so many units more are done."""
        if self._bar is not None:
            self._bar.update(count)

    def say(self, **values: Any) -> None:
        """Show values behind the bar."""
        if self._bar is not None:
            self._bar.set_postfix(**values)


def progress(
    items: Iterable[T],
    shown: Any,
    what: str,
    unit: str = "it",
    total: int | None = None,
    size: Callable[[T], int] | None = None,
) -> Iterator[T]:
    """Yield items, and show how many have been worked on.

    Parameters
    ----------
    items : iterable
    shown : bool
    what : str
        Said in front of the bar.
    unit : str, default="it"
    total : int, optional
        Number of units; by default that of items.
    size : callable, optional
        An item -> how many units it holds; by default 1.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Bar(shown, total, what, unit) as bar:
        for item in items:
            yield item
            bar.advance(1 if size is None else size(item))
