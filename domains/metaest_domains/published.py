"""Populations of papers as data files of a domain: data/GROUP/NAME.json, as :class:`metaest.Population` writes them."""

import json
from collections.abc import Iterator
from importlib.resources.abc import Traversable

from metaest import Population

__all__ = ["PublishedFiles"]


class PublishedFiles:
    """The files of one domain.

    Parameters
    ----------
    folder : Traversable
    group : str
        What a folder in it stands for, such as "drug".
    """

    def __init__(self, folder: Traversable, group: str) -> None:
        self.folder = folder
        self.group = group

    def load(self, group: str, name: str) -> Population:
        """Return one population, or raise an error that lists those there are."""
        for argument, value in ((self.group, group), ("name", name)):
            if not isinstance(value, str):
                raise TypeError(f"load_published: {argument} must be text, got {value!r}.")
        published = self._names()
        if group not in published:
            raise ValueError(f"load_published: there is no {self.group} {group!r}; there are {', '.join(published)}.")
        if name not in published[group]:
            raise ValueError(
                f"load_published: there is no model {name!r} of {group}; there are {', '.join(published[group])}."
            )
        return self._read(group, name)

    def every(self) -> Iterator[tuple[str, str, Population]]:
        """Yield the group, the name and the population of each file, in the order of the alphabet."""
        for group, names in self._names().items():
            for name in names:
                yield group, name, self._read(group, name)

    def _names(self) -> dict[str, list[str]]:
        groups = sorted((each for each in self.folder.iterdir() if each.is_dir()), key=lambda each: each.name)
        return {
            each.name: sorted(file.name.removesuffix(".json") for file in each.iterdir() if file.name.endswith(".json"))
            for each in groups
        }

    def _read(self, group: str, name: str) -> Population:
        return Population.from_dict(json.loads((self.folder / group / f"{name}.json").read_text(encoding="utf-8")))
