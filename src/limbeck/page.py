"""The frame of every page that is a file: one HTML document that needs nothing else and asks nobody for anything.

Styles lie inside, plots are SVG, there is no script, and a policy inside the page forbids what it does not need. What
is put into a page is escaped unless it was made here.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import DictLoader, Environment

__all__ = ["render"]


def render(package: str, template: str, **values: Any) -> str:
    """The page that ``template``, a file of ``package``, makes of ``values``; it extends `frame.html.j2`."""
    files = {"frame.html.j2": ("limbeck", "frame.html.j2"), template: (package, template)}
    texts = {name: resources.files(where).joinpath(file).read_text("utf-8") for name, (where, file) in files.items()}
    environment = Environment(
        loader=DictLoader(texts), autoescape=True, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template(template).render(values)
