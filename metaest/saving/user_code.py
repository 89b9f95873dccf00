"""Code that no file holds: the caller passes it, and it is compared with what the file was made with."""

from collections.abc import Sequence
from typing import Any

from metaest.exceptions import ModelFileError
from metaest.saving.classes import FORMULAS
from metaest.saving.source_hash import is_code, name_of, source_hash

__all__ = ["UserCode"]


class UserCode:
    """Equations, modules, classes and functions of the user's.

    Parameters
    ----------
    equation, module : object or None
    objects : sequence of object
        Others, found by their names.
    check_source : bool
        Whether names and sources have to be those that the file was made with.
    """

    def __init__(self, equation: Any, module: Any, objects: Sequence[Any], check_source: bool) -> None:
        self._by_role = {"equation": equation, "module": module}
        self._all, self._objects = tuple(objects), {name_of(code): code for code in objects}
        self._check, self._used, self._named = check_source, set[str](), dict[str, str]()

    def find(self, node: dict[str, Any]) -> Any:
        """Return what stands for a piece of code, or raise a ModelFileError that says what to pass."""
        name, role, source = node["given"], node["role"], node["source"]
        made = node.get("made") is True  # files of earlier versions do not say so
        thing = self._object(name) if role == "objects" else self._of_role(role, name, source)
        passed = f"{name}(...)" if made else name
        passed = f"load(path, {role}={passed})" if role != "objects" else f"load(path, objects=[{passed}])"
        if thing is None:
            raise ModelFileError(f"it was made with {name!r}, whose code is in no file; pass it: {passed}.")
        if made and is_code(thing) and name_of(thing) == name:
            raise ModelFileError(
                f"it was made with an object that {name!r} makes, and {name!r} itself was passed. Pass an object like "
                f"that of the fit: {passed}."
            )
        if self._check and (name_of(thing) != name or source_hash(thing) != source):
            since = "its source or what it holds has changed since" if made else "its source has changed since"
            what = f"{name_of(thing)!r} was passed" if name_of(thing) != name else since
            several = f" Where a file names several, as an average of models may, pass them as objects=[{name}, ...]."
            raise ModelFileError(
                f"it was made with {name!r}, but {what}. Pass the version it was made with, or, if both "
                f"compute the same, check_source=False.{several * (name_of(thing) != name and role != 'objects')}"
            )
        return thing

    def find_class(self, node: dict[str, Any]) -> type:
        """Return the class of an object whose fields a file holds, or raise a ModelFileError that says what to pass."""
        name = node["given"]
        thing = self._object(name)
        if thing is not None and not isinstance(thing, type):
            raise ModelFileError(
                f"it holds an object of the class {name!r} with its fields, and something else of this name was "
                f"passed. Pass the class itself: load(path, objects=[{name}])."
            )
        cls = self.find(node)
        if not isinstance(cls, type):
            raise ModelFileError(f"{name!r} has to be a class.")
        return cls

    def require_used(self) -> None:
        """Raise a ModelFileError where an equation or a module was passed that the file does not name."""
        for role, thing in self._by_role.items():
            if thing is not None and role not in self._used:
                raise ModelFileError(f"it was made with no {role} of yours; leave {role}= out.")

    def _of_role(self, role: str, name: Any, source: Any) -> Any:
        """Return the equation or module of a name: the one that was passed, or of several one among the objects."""
        thing = self._by_role.get(role)
        if thing is None or name_of(thing) != name:
            named = [code for code in self._all if name_of(code) == name]
            if named:
                return next((code for code in named if source_hash(code) == source), named[0])
        self._used.add(role)
        first = self._named.setdefault(role, name)
        if thing is not None and not self._check and first != name:
            raise ModelFileError(
                f"it names {first!r} and {name!r}, and one {role} was passed for both; pass them as objects=[{first}, "
                f"{name}], by these names."
            )
        return thing

    def _object(self, name: Any) -> Any:
        if name in self._objects:
            return self._objects[name]
        owner, _, attribute = str(name).rpartition(".")
        return (
            getattr(self._objects[owner], attribute, None) if owner in self._objects and attribute in FORMULAS else None
        )
