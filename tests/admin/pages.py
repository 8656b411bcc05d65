"""Reading pages of the admin."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any


def cells(response: Any, column: str) -> list[str]:
    """The text of each row of a list in the column of that name."""
    found = re.findall(rf'<t[dh] class="field-{column}[^"]*">(.*?)</t[dh]>', response.text, re.S)
    return [re.sub(r"<[^>]*>", "", cell) for cell in found]


def choices(response: Any, name: str) -> list[str]:
    """What the filter over the parameter ``name`` offers."""
    specs = response.context["cl"].filter_specs
    (spec,) = (each for each in specs if each.parameter_name == name)
    return [str(each["display"]) for each in spec.choices(response.context["cl"])]


def keys(response: Any) -> list[Any]:
    """The primary keys of the rows that a list shows."""
    return sorted(row.pk for row in response.context["cl"].result_list)


def said(response: Any) -> list[str]:
    """The messages of a page."""
    return [str(each) for each in response.context["messages"]]


class InlineFinder(HTMLParser):
    """Collects what a content security policy without 'unsafe-inline' would block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        inline = tag == "style" or (tag == "script" and "src" not in names)
        self.found += [tag] * inline
        self.found += [name for name in names if name == "style" or name.startswith("on")]


def inline_parts(response: Any) -> list[str]:
    """Inline scripts, styles and handlers of a page."""
    finder = InlineFinder()
    finder.feed(response.text)
    return finder.found
