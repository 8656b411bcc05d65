"""The reference is built from the code, and other projects can link to every public name."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
PUBLIC = (
    "django_fsmworker.admin",
    "django_fsmworker.async_resources",
    "django_fsmworker.events",
    "django_fsmworker.exceptions",
    "django_fsmworker.graph",
    "django_fsmworker.models",
    "django_fsmworker.operations",
    "django_fsmworker.runner",
    "django_fsmworker.signals",
    "django_fsmworker.testing",
    "django_fsmworker.workers",
)


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What ``objects.inv`` has of Python: the address of each name."""
    html = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    built = subprocess.run(
        [*command, "-d", str(html / ".doctrees"), str(ROOT / "docs"), str(html)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "testapp.settings"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return dict(python_entries((html / "objects.inv").read_bytes()))


def python_entries(inventory: bytes) -> Iterator[tuple[str, str]]:
    """Name and address of each entry of the Python domain; four lines precede what is packed."""
    packed = inventory.split(b"\n", 4)[4]
    for line in zlib.decompress(packed).decode().splitlines():
        name, kind, _, address, _ = line.split(maxsplit=4)
        if kind.startswith("py:"):
            yield name, address


class TestInventory:
    @pytest.mark.parametrize("module", PUBLIC)
    def test_has_every_public_name(self, module: str, inventory: dict[str, str]) -> None:
        missing = [name for name in public_names(module) if f"{module}.{name}" not in inventory]

        assert not missing

    def test_has_the_settings(self, inventory: dict[str, str]) -> None:
        assert "django_fsmworker.conf.RunnerSettings" in inventory

    @pytest.mark.parametrize(
        "name",
        [
            "graph.State",
            "graph.StateGraph",
            "models.StatorModel",
            "models.StatorQuerySet",
            "runner.StatorRunner",
        ],
    )
    def test_has_what_their_instances_can_do(self, name: str, inventory: dict[str, str]) -> None:
        module, _, cls = name.partition(".")
        documented = getattr(import_module(f"django_fsmworker.{module}"), cls)

        own = [each for each, value in vars(documented).items() if is_public_verb(each, value)]

        missing = [each for each in own if f"django_fsmworker.{name}.{each}" not in inventory]
        assert own
        assert set(missing) == UNDOCUMENTED.get(name, set())

    def test_leads_to_the_reference(self, inventory: dict[str, str]) -> None:
        pages = {uri.partition("#")[0] for uri in inventory.values()}

        assert pages == {
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


# What the engine asks of public classes, and what Django's own documentation tells.
UNDOCUMENTED = {
    "graph.State": {"answered", "first_due", "twin"},
    "models.StatorModel": {"refresh_from_db"},
}


def public_names(module: str) -> list[str]:
    found = import_module(module)
    listed: list[str] = getattr(found, "__all__", [])
    return listed or [
        name
        for name, value in vars(found).items()
        if getattr(value, "__module__", "") == module or is_signal(value)
    ]


def is_signal(value: Any) -> bool:
    return type(value).__name__ == "Signal"


def is_public_verb(name: str, value: Any) -> bool:
    functions = inspect.isfunction(value) or isinstance(value, classmethod | property)
    return functions and not name.startswith("_")
