"""Sphinx settings."""

project = "metaest"
author = "The metaest developers"
copyright = "2026, The metaest developers"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.extlinks",
    "sphinx.ext.mathjax",
    "numpydoc",
]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "metaest"
html_static_path: list[str] = []
exclude_patterns = ["_build"]
autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
nitpicky = False
# ref.ref: labels of scikit-learn in docstrings inherited from it; the myst ones: links to files outside docs/
suppress_warnings = ["myst.xref_missing", "ref.ref"]
extlinks = {"doi": ("https://doi.org/%s", "doi:%s")}
