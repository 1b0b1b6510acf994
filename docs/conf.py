"""How Sphinx makes a site of the Markdown pages, as they stand, and of the docstrings: `make docs`.

Its source folder is the repository, so that a link leads to the same place here and on a forge. The table of contents
is the list of pages in docs/README.md: a page that is not in it is a warning, and warnings are errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path

from prefect import Flow, Task
from pydantic import BaseModel
from sphinx.application import Sphinx

project = "dtool-ecs-flows"
author = "dtool-ecs-flows developers"
version = release = version_of(project)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
root_doc = "docs/README"
include_patterns = ["*.md", "docs/**", "deployments/README.md", "benchmarks/README.md", "benchmarks/results/*.md"]
exclude_patterns = ["docs/conf.py"]

myst_heading_anchors = 4  # a link to a heading is checked, and written as on a forge
myst_links_external_new_tab = False

smartquotes = False  # what is quoted is often typed
default_role = "code"  # docstrings have names in single backticks
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "model_config, model_post_init"}  # pydantic's own
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
# `bytes` in a signature is the type; Sphinx also finds the fields of that name, and cannot decide.
suppress_warnings = ["ref.python"]
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False


def contents(_: Sphinx, docname: str, source: list[str]) -> None:
    """Make a table of contents of each list of pages in docs/README.md, with the heading above it as its caption."""
    if docname != root_doc:
        return
    for head, pages in re.findall(r"^## (.+)\n((?:.*\n)*?)(?=^## |\Z)", source[0], re.MULTILINE):
        targets = re.findall(r"^- \[[^]]+\]\((\S+?)\)", pages, re.MULTILINE)
        entries = "\n".join(re.sub(r"\.(md|rst)$", "", target) for target in targets)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {head}\n\n{entries}\n```\n"


def plain_functions() -> None:
    """Put the functions in the place of flows and tasks, which autodoc would take for data."""
    modules = [f"flows.{path.stem}" for path in Path("../dtool_ecs_flows/flows").glob("[a-z]*.py")]
    for module in map(import_module, (f"dtool_ecs_flows.{name}" for name in ["tasks", *modules])):
        for name, value in list(vars(module).items()):
            if isinstance(value, (Flow, Task)):
                setattr(module, name, value.fn)


def docstring(_app: Sphinx, _what: str, _name: str, obj: object, _options: object, lines: list[str]) -> None:
    """Turn fenced code into what docutils reads, and tell of the fields that have their description in a form."""
    lines[:] = [*without_fences(lines), "", *described_fields(obj), ""]


def without_fences(lines: list[str]) -> Iterator[str]:
    """Prefect shows the docstrings of blocks as Markdown, so theirs have fences."""
    inside = False
    for line in lines:
        if line.strip().startswith("```"):
            inside = not inside
            yield from [line.replace("```python", ".. code-block:: python"), ""] if inside else [""]
        else:
            yield f"    {line}" if inside else line


def described_fields(obj: object) -> Iterator[str]:
    """What the forms of the Prefect UI say of each field is the documentation of options and blocks."""
    if isinstance(obj, type) and issubclass(obj, BaseModel):
        for name, field in obj.model_fields.items():
            if field.description:
                plain = re.sub(r"([*`|_\\])", r"\\\1", field.description)
                yield f":param {name}: {plain}"


def first_page(app: Sphinx, error: Exception | None) -> None:
    """Lead whoever opens the folder to the first page."""
    if error is None:
        target = f"{root_doc}.html"
        (Path(app.outdir) / "index.html").write_text(
            f'<!doctype html><meta http-equiv="refresh" content="0; url={target}"><a href="{target}">{project}</a>\n'
        )


def setup(app: Sphinx) -> None:
    """Connect all that to Sphinx."""
    plain_functions()
    app.connect("source-read", contents)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("build-finished", first_page)
