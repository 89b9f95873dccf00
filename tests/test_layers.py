"""Imports point one way: tasks, functional -> estimators -> diagnostics; domains and data sets import metaest."""

import ast
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# what each layer may import of the project, itself apart
ALLOWED = {
    "metaest/exceptions.py": set(),
    "metaest/version.py": set(),
    "metaest/tasks": {"metaest.exceptions"},
    "metaest/functional": {"metaest.exceptions"},
    "metaest/jit": {"metaest.functional"},
    "metaest/population": {"metaest.exceptions", "metaest.functional"},
    "metaest/estimators": {
        "metaest.exceptions",
        "metaest.population",
        "metaest.version",
        "metaest.tasks",
        "metaest.functional",
        "metaest.jit",
    },
    "metaest/diagnostics": {"metaest.exceptions", "metaest.tasks", "metaest.functional", "metaest.estimators"},
    "metaest/selection": {"metaest.exceptions", "metaest.tasks", "metaest.functional", "metaest.estimators"},
    "metaest/saving": {
        "metaest.exceptions",
        "metaest.version",
        "metaest.tasks",
        "metaest.functional",
        "metaest.population",
        "metaest.estimators",
        "metaest.selection",
    },
    "metaest/server": {
        "metaest.exceptions",
        "metaest.tasks",
        "metaest.functional",
        "metaest.estimators",
        "metaest.selection",
        "metaest.saving",
        "metaest.version",
    },
    "metaest/__main__.py": {"metaest.server"},
    "metaest/scorers": {"metaest.exceptions", "metaest.tasks", "metaest.estimators"},
    "metaest/__init__.py": {
        "metaest.exceptions",
        "metaest.population",
        "metaest.version",
        "metaest.tasks",
        "metaest.estimators",
        "metaest.saving",
        "metaest.scorers",
        "metaest.selection",
    },
    "datasets/metaest_datasets": {"metaest"},
    "domains/metaest_domains": {"metaest", "metaest_datasets"},
}
FOREIGN_TO_FUNCTIONAL = {"sklearn", "pandas", "numpy", "scipy"}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # of the package itself a name may be a module
            names = [f"metaest.{alias.name}" for alias in node.names]
            yield from names if node.module == "metaest" else [node.module]


def files(layer):
    place = ROOT / layer
    return [place] if place.suffix else sorted(place.rglob("*.py"))


@pytest.mark.parametrize("layer", ALLOWED)
def test_imports_point_one_way(layer):
    own = layer.removesuffix(".py").removeprefix("domains/").removeprefix("datasets/").replace("/", ".")
    for path in files(layer):
        for name in imports(path):
            if name.split(".")[0] not in ("metaest", "metaest_domains", "metaest_datasets"):
                continue
            allowed = [*ALLOWED[layer], own]
            assert any(name == other or name.startswith(f"{other}.") for other in allowed), f"{path} imports {name}"


def test_the_functional_core_is_torch_only():
    for path in files("metaest/functional"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & FOREIGN_TO_FUNCTIONAL, path


def test_domains_do_not_import_one_another():
    package = ROOT / "domains/metaest_domains"
    shared = {path.stem for path in package.glob("*.py")}
    for domain in (path for path in package.iterdir() if path.is_dir()):
        for path in domain.rglob("*.py"):
            for name in imports(path):
                allowed = {domain.name, *shared}
                assert not name.startswith("metaest_domains.") or name.split(".")[1] in allowed, f"{path}: {name}"


def test_functions_fit_on_a_screen_and_files_hold_one_idea():
    too_long = []
    for folder in ("metaest", "domains", "datasets"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            if len(text.splitlines()) > 600:
                too_long.append(str(path))
            for node in ast.walk(ast.parse(text)):
                # a constructor lists its settings
                if isinstance(node, ast.FunctionDef) and node.name != "__init__":
                    first = node.body[0]
                    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
                    if node.end_lineno - node.lineno + 1 - docstring > 80:
                        too_long.append(f"{path}: {node.name}")
    assert not too_long


def test_every_public_name_is_documented():
    import metaest
    import metaest.diagnostics
    import metaest.functional
    import metaest.scorers
    import metaest.server
    import metaest_datasets
    import metaest_domains.kinetics
    import metaest_domains.physiology
    import metaest_domains.trading

    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    modules = (metaest, metaest.scorers, metaest.diagnostics, metaest.functional, metaest.server, metaest_datasets)
    domains = (metaest_domains.kinetics, metaest_domains.physiology, metaest_domains.trading)
    for module in (*modules, *domains):
        for name in module.__all__:
            assert f" {name}\n" in page or f"`{name}`" in page, f"{module.__name__}.{name} is missing from docs/api.md"
            thing = getattr(module, name)
            assert thing.__doc__ or not (inspect.isclass(thing) or inspect.isfunction(thing)), name
