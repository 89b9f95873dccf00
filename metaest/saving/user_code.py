"""Code that no file holds: the caller passes it, and it is compared with what the file was made with."""

from collections.abc import Sequence
from typing import Any

from metaest.exceptions import ModelFileError
from metaest.saving.classes import FORMULAS
from metaest.saving.source_hash import name_of, source_hash

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
        self._objects = {name_of(code): code for code in objects}
        self._check, self._used = check_source, set[str]()

    def find(self, node: dict[str, Any]) -> Any:
        """Return what stands for a piece of code, or raise a ModelFileError that says what to pass."""
        name, role, source = node["given"], node["role"], node["source"]
        self._used.add(role)
        thing = self._by_role.get(role) if role != "objects" else self._object(name)
        if thing is None:
            passed = f"load(path, {role}={name})" if role != "objects" else f"load(path, objects=[{name}])"
            raise ModelFileError(f"it was made with {name!r}, whose code is in no file; pass it: {passed}.")
        if self._check and (name_of(thing) != name or source_hash(thing) != source):
            what = f"{name_of(thing)!r} was passed" if name_of(thing) != name else "its source has changed since"
            raise ModelFileError(
                f"it was made with {name!r}, but {what}. Pass the version it was made with, or, if both "
                "compute the same, check_source=False."
            )
        return thing

    def require_used(self) -> None:
        """Raise a ModelFileError where an equation or a module was passed that the file does not name."""
        for role, thing in self._by_role.items():
            if thing is not None and role not in self._used:
                raise ModelFileError(f"it was made with no {role} of yours; leave {role}= out.")

    def _object(self, name: Any) -> Any:
        if name in self._objects:
            return self._objects[name]
        owner, _, attribute = str(name).rpartition(".")
        return (
            getattr(self._objects[owner], attribute, None) if owner in self._objects and attribute in FORMULAS else None
        )
