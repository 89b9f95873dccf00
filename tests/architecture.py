"""Print how the code is built beside the limits it is held to: classes, floors of imports, names, sizes.

Everything is counted from the syntax trees; nothing of the project is imported. ``tests/test_architecture.py`` asserts
each limit.

::

    python tests/architecture.py
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"metaest": ROOT, "metaest_domains": ROOT / "domains", "metaest_datasets": ROOT / "datasets"}
META_GRADIENTS = {"exact", "first-order", "reptile", "implicit"}
# classes that are asked what they are, where they should be asked for an answer
SOLVERS_AND_SAMPLERS = re.compile(
    r"(Solver|Sampler|Source|GradientDescent|ClosedForm|ClassHead|GaussNewton|MapEstimate\w*)$"
)
HANDED_DOWN = {"model", "settings", "predictor", "estimator"}
EMPTY_NAMES = {"own", "found", "known"}
# functions that are one template of generated code each, and constructors, which list settings
LONG_BY_NATURE = {"__init__"}
MAX_LINES = 80


# ---------------------------------------------------------------- files and their syntax trees


@cache
def files(folder: str) -> tuple[Path, ...]:
    """Return the Python files below a folder of the repository."""
    return tuple(sorted((ROOT / folder).rglob("*.py")))


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def walked(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a file's syntax tree."""
    return tuple(ast.walk(tree(path)))


def sources() -> Iterator[Path]:
    """Yield all files of the three packages."""
    return chain(files("metaest"), files("domains"), files("datasets"))


def nodes(*folders: str) -> Iterator[tuple[Path, ast.AST]]:
    """Yield every node of the syntax trees below folders, with its file."""
    for path in chain.from_iterable(files(folder) for folder in folders):
        for node in walked(path):
            yield path, node


ALL = ("metaest", "domains", "datasets")


def path_of(module: str) -> Path | None:
    """Return the file of a module of the project, or None."""
    base = PACKAGES.get(module.split(".")[0])
    if base is None:
        return None
    place = base.joinpath(*module.split("."))
    for candidate in (place.with_suffix(".py"), place / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


@cache
def imported_names(path: Path) -> dict[str, tuple[str, str]]:
    """Return for each name a file imports from the project the module it is taken from, and its name there."""
    names = {}
    for node in walked(path):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            for alias in node.names:
                names[alias.asname or alias.name] = (node.module, alias.name)
    return names


@cache
def home(module: str, name: str) -> Path | None:
    """Return the file that defines a name, through the packages that pass it on."""
    submodule = path_of(f"{module}.{name}")
    if submodule is not None:
        return submodule
    path = path_of(module)
    if path is not None and path.name == "__init__.py" and name in imported_names(path):
        return home(*imported_names(path)[name])
    return path


@cache
def imports(path: Path) -> frozenset[Path]:
    """Return the files of the project that a file imports, those that define what it takes from a package."""
    arrows = {home(module, name) for module, name in imported_names(path).values()}
    for node in walked(path):
        if isinstance(node, ast.Import):
            arrows |= {path_of(alias.name) for alias in node.names}
    return frozenset(arrow for arrow in arrows if arrow not in (None, path))  # type: ignore[misc]


# ---------------------------------------------------------------- the import graph


def box_of(path: Path, folder: Path) -> str:
    """Return the file's name within a folder, or the subfolder that holds it."""
    return path.relative_to(folder).parts[0]


def graph(folder: str) -> dict[str, set[str]]:
    """Return the arrows between the files of a folder, each of its subfolders taken as one box."""
    place = ROOT / folder
    arrows: dict[str, set[str]] = {}
    for path in files(folder):
        box = box_of(path, place)
        if box != "__init__.py":
            aims = {box_of(aim, place) for aim in imports(path) if aim.is_relative_to(place)}
            arrows.setdefault(box, set()).update(aims - {box, "__init__.py"})
    return arrows


def floors(folder: str) -> int:
    """Return how many floors a folder has: a box stands one above the highest box it imports."""
    arrows = graph(folder)
    heights: dict[str, int] = {}

    def height(box: str, above: tuple[str, ...] = ()) -> int:
        if box in above:  # a cycle is counted elsewhere
            return 0
        if box not in heights:
            heights[box] = 1 + max((height(aim, (*above, box)) for aim in sorted(arrows[box])), default=0)
        return heights[box]

    return max(map(height, sorted(arrows)), default=0)


def cycles() -> tuple[int, int]:
    """Return the number of groups of files that import each other, and of arrows that close a cycle."""
    arrows = {path: imports(path) for path in sources() if path.name != "__init__.py"}
    state: dict[Path, int] = {}
    back = 0
    reachable: dict[Path, set[Path]] = {}

    def visit(path: Path) -> None:
        nonlocal back
        state[path] = 1
        for aim in sorted(arrows[path]):
            if aim not in arrows:
                continue
            if state.get(aim) == 1:
                back += 1
            elif aim not in state:
                visit(aim)
        state[path] = 2

    sys.setrecursionlimit(10_000)
    for path in arrows:
        if path not in state:
            visit(path)
    if not back:
        return 0, 0
    for path in arrows:
        seen, todo = set(), [path]
        while todo:
            for aim in arrows.get(todo.pop(), ()):
                if aim not in seen:
                    seen.add(aim)
                    todo.append(aim)
        reachable[path] = seen
    groups = {frozenset(p for p in reachable[q] if q in reachable[p]) for q in arrows if q in reachable[q]}
    return len(groups), back


# ---------------------------------------------------------------- classes


@cache
def classes(path: Path) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in tree(path).body if isinstance(node, ast.ClassDef)}


def where(module: str, name: str) -> tuple[Path, ast.ClassDef]:
    """Return the file and the definition of a public class."""
    path = home(module, name)
    assert path is not None, f"{module}.{name}"
    return path, classes(path)[name]


def bases(path: Path, node: ast.ClassDef) -> Iterator[tuple[Path, ast.ClassDef]]:
    """Yield a class and those it inherits from, of the project's own."""
    yield path, node
    for base in node.bases:
        name = ast.unparse(base).split("[")[0]
        if name in classes(path):
            yield from bases(path, classes(path)[name])
        elif name in imported_names(path):
            yield from bases(*where(*imported_names(path)[name]))


def lineage(module: str, name: str) -> list[tuple[Path, ast.ClassDef]]:
    return list({f"{path}:{node.name}": (path, node) for path, node in bases(*where(module, name))}.values())


def files_of_public_methods(module: str, name: str) -> int:
    """Return in how many files the public methods of a class are defined."""
    return len(
        {
            path
            for path, node in lineage(module, name)
            for part in node.body
            if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")
        }
    )


# ---------------------------------------------------------------- names and sizes


def comparisons_with_meta_gradients() -> int:
    """Count comparisons with the name of a meta-gradient outside the folder of meta-gradients."""
    return sum(
        isinstance(part, ast.Constant) and part.value in META_GRADIENTS
        for path, node in nodes("metaest")
        if isinstance(node, ast.Compare) and "meta_gradients" not in path.parts
        for side in (node.left, *node.comparators)
        for part in ast.walk(side)
    )


def type_checks() -> int:
    """Count ``isinstance`` that asks whether a solver or a sampler is of a class."""
    return sum(
        any(SOLVERS_AND_SAMPLERS.search(name.strip()) for name in re.split(r"[|,()]", ast.unparse(node.args[1])))
        for _, node in nodes("metaest")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance" and len(node.args) == 2
    )


def handed_down() -> int:
    """Count parameters that hand an estimator down without a type."""
    return sum(
        argument.arg in HANDED_DOWN and argument.annotation is not None and ast.unparse(argument.annotation) == "Any"
        for _, node in nodes("metaest/estimators")
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    )


def bindings(names: set[str]) -> int:
    """Count bindings of names: assignments, loops and parameters."""
    return sum(
        (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in names)
        or (isinstance(node, ast.arg) and node.arg in names)
        for _, node in nodes(*ALL)
    )


def packed_constants() -> int:
    """Count assignments at the level of a module or a class that give several constants at once."""
    return sum(
        isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Tuple)
        for _, node in nodes("metaest", "domains")
        if isinstance(node, (ast.Module, ast.ClassDef))
        for line in node.body
    )


def stacklevels() -> int:
    return sum(isinstance(node, ast.keyword) and node.arg == "stacklevel" for _, node in nodes(*ALL))


def long_functions() -> list[str]:
    """Return the functions that are longer than a screen, docstrings aside."""
    names = []
    for path, node in nodes(*ALL):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name not in LONG_BY_NATURE:
            first = node.body[0]
            docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
            if node.end_lineno - node.lineno + 1 - docstring > MAX_LINES:
                names.append(f"{path.relative_to(ROOT)}: {node.name}")
    return names


def private_names_of_metaest() -> set[str]:
    """Return private attributes and methods of metaest's classes."""
    names = set()
    for _, node in nodes("metaest"):
        if isinstance(node, ast.ClassDef):
            names |= {name for part in node.body for name in _bound_by(part)}
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    # these two are scikit-learn's
    return {name for name in names if re.match(r"_[a-z]", name)} - {"_parameter_constraints", "_validate_params"}


def _bound_by(part: ast.stmt) -> list[str]:
    """Return the names that one statement of a class binds."""
    targets = part.targets if isinstance(part, ast.Assign) else [getattr(part, "target", part)]
    return [getattr(target, "name", getattr(target, "id", "")) for target in targets]


def _members(node: ast.ClassDef) -> set[str]:
    """Return all attributes that a class gives itself."""
    stored = {
        part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store)
    }
    written = {
        part.args[1].value
        for part in ast.walk(node)
        if isinstance(part, ast.Call)
        and len(part.args) == 3
        and ast.unparse(part.func) == "object.__setattr__"
        and isinstance(part.args[1], ast.Constant)
    }
    return stored | written | {name for part in node.body for name in _bound_by(part)}


def _inherits(path: Path, node: ast.ClassDef) -> bool:
    """Return whether a class has a base of metaest."""
    return any(base in _estimators(path) for base in map(ast.unparse, node.bases))


def private_hooks_in_domains() -> list[str]:
    """Return where a domain overrides or reads something private of metaest."""
    private, places = private_names_of_metaest(), []
    for path in files("domains"):
        at_home = {name for node in classes(path).values() if not _inherits(path, node) for name in _members(node)}
        for node in walked(path):
            names: list[str] = []
            if isinstance(node, ast.ClassDef) and _inherits(path, node):
                names = [name for part in node.body for name in _bound_by(part)]
            elif isinstance(node, ast.Attribute) and node.attr not in at_home:
                names = [node.attr]
            places += [f"{path.relative_to(ROOT)}:{node.lineno} {name}" for name in names if name in private]
    return places


@cache
def _estimators(path: Path) -> frozenset[str]:
    """Return names in a file of classes that inherit from metaest."""
    names = {name for name, (module, _) in imported_names(path).items() if module.split(".")[0] == "metaest"}
    for name, (module, real) in imported_names(path).items():
        place = home(module, real)
        if place is not None and place != path and real in classes(place) and _of_metaest(place, classes(place)[real]):
            names.add(name)
    for name, node in classes(path).items():
        if _of_metaest(path, node):
            names.add(name)
    return frozenset(names)


def _of_metaest(path: Path, node: ast.ClassDef) -> bool:
    """Return whether a class or one of its bases is defined in metaest."""
    return any(place.is_relative_to(ROOT / "metaest") for place, _ in bases(path, node))


def files_that_touch_rows() -> list[str]:
    """Return the files of networks that read ``.X`` of a task."""
    folder = "metaest/estimators/networks"
    return sorted({path.name for path, node in nodes(folder) if isinstance(node, ast.Attribute) and node.attr == "X"})


# ---------------------------------------------------------------- the table


@dataclass(frozen=True)
class Row:
    """One check: what is counted, what a review counted by hand, the limit it set, and what is counted now."""

    check: str
    review: str
    limit: int
    now: int

    @property
    def before(self) -> str:
        return COUNTED_BEFORE.get(self.check, "-")

    @property
    def reached(self) -> bool:
        return self.now <= self.limit


# what this script counts at f1b3c70, before the files were moved; folders that were not there yet have no number
COUNTED_BEFORE = {
    "own classes of MAMLRegressor": "8",
    "own classes of EquationRegressor": "7",
    "own classes of JMAKRegressor": "9",
    "own classes of NonIsothermalJMAKRegressor": "10",
    "files with public methods of MAMLRegressor": "4",
    "files with public methods of EquationRegressor": "5",
    "floors of estimators, subfolders as one box": "11",
    "floors of equations, fit as one box": "10",
    "floors of functional, subfolders as one box": "8",
    "floors of jit, subfolders as one box": "10",
    "groups of files that import each other": "1",
    "imports that point backward": "2",
    "isinstance on a solver or sampler": "22",
    "comparisons with a meta-gradient's name": "19",
    "parameters model, settings, predictor: Any": "68",
    "bindings of own, found, known": "548",
    "lines that assign several constants": "59",
    "stacklevel=": "1",
    "private hooks of metaest in domains": "37",
    "functions above 80 lines without docstring": "2",
}
# limits that the code does not keep yet; a test fails when one of them is reached and still stands here
NOT_YET: set[str] = set()


def rows() -> list[Row]:
    """Count everything."""
    groups, back = cycles()
    kinetics = "metaest_domains.kinetics"
    return [
        Row("own classes of MAMLRegressor", "5", 3, len(lineage("metaest", "MAMLRegressor"))),
        Row("own classes of EquationRegressor", "5", 2, len(lineage("metaest", "EquationRegressor"))),
        Row("own classes of JMAKRegressor", "7", 4, len(lineage(kinetics, "JMAKRegressor"))),
        Row(
            "own classes of NonIsothermalJMAKRegressor",
            "8",
            5,
            len(lineage(kinetics, "NonIsothermalJMAKRegressor")),
        ),
        Row("files with public methods of MAMLRegressor", "5", 3, files_of_public_methods("metaest", "MAMLRegressor")),
        Row(
            "files with public methods of EquationRegressor",
            "5",
            3,
            files_of_public_methods("metaest", "EquationRegressor"),
        ),
        Row("files of networks that touch .X", "25", 10, len(files_that_touch_rows())),
        Row(
            "files of equations/fit, in the order of the algorithm",
            "-",
            7,
            len(graph("metaest/estimators/equations/fit")),
        ),
        Row("floors of estimators, subfolders as one box", "12", 4, floors("metaest/estimators")),
        Row("floors of networks", "-", 7, floors("metaest/estimators/networks")),
        Row("floors of equations, fit as one box", "10", 8, floors("metaest/estimators/equations")),
        Row("floors of equations/fit", "-", 3, floors("metaest/estimators/equations/fit")),
        Row("floors of functional, subfolders as one box", "8", 6, floors("metaest/functional")),
        Row("floors of jit, subfolders as one box", "11", 7, floors("metaest/jit")),
        Row("groups of files that import each other", "1", 0, groups),
        Row("imports that point backward", "1", 0, back),
        Row("isinstance on a solver or sampler", "20", 3, type_checks()),
        Row("comparisons with a meta-gradient's name", "11", 0, comparisons_with_meta_gradients()),
        Row("parameters model, settings, predictor: Any", "42", 12, handed_down()),
        Row("bindings of own, found, known", "511", 30, bindings(EMPTY_NAMES)),
        Row("lines that assign several constants", "59", 0, packed_constants()),
        Row("stacklevel=", "30", 1, stacklevels()),
        Row("private hooks of metaest in domains", "11", 0, len(private_hooks_in_domains())),
        Row("functions above 80 lines without docstring", "2", 0, len(long_functions())),
    ]


def main() -> None:
    """Print the table."""
    table = [("check", "review", "before", "limit", "now", "")]
    for row in rows():
        missed = "" if row.reached else "missed"
        table.append((row.check, row.review, row.before, f"<= {row.limit}", str(row.now), missed))
    widths = [max(len(line[i]) for line in table) for i in range(6)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
