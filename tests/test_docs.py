"""The worked examples of the docs run."""

import ast
import builtins
import doctest
import functools
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(
    "page",
    [
        "theory/algorithms.md",
        "guide/auto.md",
        "guide/classification.md",
        "guide/gaussian.md",
        "domains/clinic.md",
        "guide/guard-and-intervals.md",
        "guide/keeping.md",
        "guide/levels.md",
        "guide/networks.md",
        "guide/outcomes.md",
        "guide/policies.md",
        "guide/populations.md",
        "guide/random-coefficients.md",
        "domains/kinetics.md",
        "domains/laboratories.md",
        "domains/physiology.md",
        "domains/published.md",
        "domains/records.md",
        "guide/speed.md",
        "domains/trading.md",
    ],
)
def test_worked_examples(page):
    failed, tried = doctest.testfile(str(DOCS / page), module_relative=False)
    assert tried > 0
    assert failed == 0


@pytest.mark.filterwarnings("ignore::metaest.IdentifiabilityWarning", "ignore::metaest.UnlikelyTaskWarning")
def test_the_example_of_the_readme_prints_what_it_says(capsys):
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    (example,), (output,) = (re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for kind in ("python", "text"))
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == output


def test_links_between_pages_lead_somewhere():
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"]:
        if "_build" in page.parts or "generated" in page.parts:
            continue
        for target, anchor in re.findall(r"\]\(([\w\-/.]*)(#[^)]*)?\)", page.read_text(encoding="utf-8")):
            place = page.parent / target if target else page
            assert place.exists(), f"{page}: {target}"
            if anchor and place.suffix == ".md":
                assert anchor[1:] in anchors(place.read_text(encoding="utf-8")), f"{page}: {target}{anchor}"


@pytest.mark.parametrize("page", sorted((DOCS / "contributing").glob("*.md")), ids=lambda page: page.stem)
def test_pages_for_contributors_name_what_there_is(page):
    """A path, in full or from some folder on, leads to one file; a class of metaest is somewhere in the code."""
    text = re.sub(r"(?s)```.*?```", "", page.read_text(encoding="utf-8"))
    for name in re.findall(r"`([\w/.]+\.py)`", text):
        assert len([file for file in files() if f"/{file}".endswith(f"/{name}")]) == 1, name
    for folder in re.findall(r"`([\w/]+)/`", text):
        assert any(f"/{folder}/" in f"/{file}" for file in files()), folder
    for name in re.findall(r"`(_?[A-Z]\w*[a-z]\w*)(?:\.\w+)*(?:\(.*?\))?`", text):
        assert name in words(), name


def test_the_design_is_short_and_names_files():
    text = (DOCS / "contributing" / "design.md").read_text(encoding="utf-8")
    assert len(re.findall(r"`((?:metaest|domains|datasets|tests)/[\w/]+\.py)`", text)) > 50
    assert len(text.splitlines()) < 160


@functools.cache
def files():
    """Return the paths of all Python files, from the root of the repository."""
    folders = ("metaest", "domains", "datasets", "tests", "docs")
    return [
        file.relative_to(DOCS.parent).as_posix() for folder in folders for file in (DOCS.parent / folder).rglob("*.py")
    ]


@functools.cache
def words():
    """Return the names of classes, functions and variables, of imported ones and of Python's own."""
    names = set(dir(builtins))
    for file in files():
        for node in ast.walk(ast.parse((DOCS.parent / file).read_text(encoding="utf-8"))):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif isinstance(node, ast.ImportFrom):
                names |= {alias.name for alias in node.names}
    return names


def anchors(text):
    """What MyST makes of the headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in re.findall(r"(?m)^#+ (.*)$", text)
    }
