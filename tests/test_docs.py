"""The worked examples of the docs run."""

import doctest
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(
    "page",
    [
        "theory/algorithms.md",
        "guide/classification.md",
        "domains/clinic.md",
        "guide/guard-and-intervals.md",
        "guide/keeping.md",
        "domains/physiology.md",
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


def test_files_that_the_design_names_are_there():
    text = (DOCS / "contributing" / "design.md").read_text(encoding="utf-8")
    names = re.findall(r"`((?:metaest|domains|datasets|tests)/[\w/]+\.py)`", text)
    assert len(names) > 50
    assert not [name for name in names if not (DOCS.parent / name).exists()]
    assert len(text.splitlines()) < 160  # four pages


def anchors(text):
    """What MyST makes of the headings."""
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in re.findall(r"(?m)^#+ (.*)$", text)
    }
