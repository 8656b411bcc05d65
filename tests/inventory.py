"""
``python -m tests.inventory FILE``: whether other projects can link to every public name.

FILE is the ``objects.inv`` of the built documentation. What is missing there is printed, and makes
the exit status 1. The documentation is built by the checks of a commit, not by the tests.
"""

from __future__ import annotations

import inspect
import os
import sys
import zlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = "django_fsmworker"
PUBLIC = (
    "admin",
    "async_resources",
    "events",
    "exceptions",
    "graph",
    "models",
    "operations",
    "runner",
    "signals",
    "testing",
    "workers",
)
# Whatever their instances can do has an entry of its own.
WITH_VERBS = (
    "graph.State",
    "graph.StateGraph",
    "models.StatorModel",
    "models.StatorQuerySet",
    "runner.StatorRunner",
)
# What the engine asks of public classes, and what Django's own documentation tells.
UNDOCUMENTED = {
    "graph.State.answered",
    "graph.State.first_due",
    "graph.State.twin",
    "models.StatorModel.refresh_from_db",
}
PAGES = {
    f"reference/{page}.html"
    for page in (
        "admin",
        "events",
        "graph",
        "model",
        "runner",
        "settings",
        "signals",
        "testing",
        "workers",
    )
}


def main(file: str) -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "testapp.settings")
    import django

    django.setup()
    found = list(problems(dict(python_entries(Path(file).read_bytes()))))
    for problem in found:
        print(problem, file=sys.stderr)
    return int(bool(found))


def problems(inventory: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the addresses of the names, in a sentence each."""
    entries = {name.removeprefix(f"{PACKAGE}.") for name in inventory}
    verbs = {each for name in WITH_VERBS for each in verbs_of(name)}
    names = {name for module in PUBLIC for name in public_names(module)}
    for name in sorted((names | verbs | {"conf.RunnerSettings"}) - UNDOCUMENTED - entries):
        yield f"{name} is public, but the reference does not have it."
    for name in sorted(UNDOCUMENTED - (verbs - entries)):
        yield f"{name} is said not to be in the reference, but it is, or there is no such name."
    pages = {address.partition("#")[0] for address in inventory.values()}
    for page in sorted(pages ^ PAGES):
        yield f"{page} describes names, or is said to, but not both."


def python_entries(inventory: bytes) -> Iterator[tuple[str, str]]:
    """Name and address of each entry of the Python domain; four lines precede what is packed."""
    packed = inventory.split(b"\n", 4)[4]
    for line in zlib.decompress(packed).decode().splitlines():
        name, kind, _, address, _ = line.split(maxsplit=4)
        if kind.startswith("py:"):
            yield name, address


def public_names(module: str) -> list[str]:
    found = import_module(f"{PACKAGE}.{module}")
    listed: list[str] = getattr(found, "__all__", [])
    names = listed or [
        name
        for name, value in vars(found).items()
        if getattr(value, "__module__", "") == found.__name__ or is_signal(value)
    ]
    return [f"{module}.{name}" for name in names]


def verbs_of(name: str) -> list[str]:
    module, _, cls = name.partition(".")
    values = vars(getattr(import_module(f"{PACKAGE}.{module}"), cls))
    return [f"{name}.{each}" for each, value in values.items() if is_public_verb(each, value)]


def is_signal(value: Any) -> bool:
    return type(value).__name__ == "Signal"


def is_public_verb(name: str, value: Any) -> bool:
    functions = inspect.isfunction(value) or isinstance(value, classmethod | property)
    return functions and not name.startswith("_")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
