"""No module imports itself by way of others, also not where only a type checker looks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import django_fsmworker
from tests.source_trees import tree_of

# The modules that have to be without a cycle: this one and all below it.
WITHOUT_CYCLES = "django_fsmworker"

ROOT = Path(django_fsmworker.__file__).parent


def test_no_import_cycles():
    imports = {
        name: {imported for imported in targets if is_below(imported, WITHOUT_CYCLES)}
        for name, targets in imports_of(ROOT).items()
        if is_below(name, WITHOUT_CYCLES)
    }

    assert len(imports) > 1
    assert cycles(imports) == []


class TestReading:
    """The imports that count."""

    def test_every_kind_of_import(self, tmp_path):
        root = tmp_path / "shop"
        write(root / "__init__.py", "")
        write(root / "orders" / "__init__.py", "from shop.orders.models import Order")
        write(
            root / "orders" / "models.py",
            "import shop.prices, sys\n"
            "from shop import orders as later\n"
            "from shop.orders import Order, views\n"
            "if TYPE_CHECKING:\n"
            "    from shop.checking import Check\n"
            "def late():\n"
            "    import shop.late\n",
        )
        for name in ("prices", "checking", "late", "orders/views"):
            write(root / f"{name}.py", "")

        imports = imports_of(root)

        assert imports["shop.orders"] == {"shop.orders.models"}
        assert imports["shop.orders.models"] == {
            "shop.prices",
            "shop.orders",
            "shop.orders.views",
            "shop.checking",
            "shop.late",
        }
        assert imports["shop.late"] == set()

    def test_cycles(self):
        imports = {"a": {"b"}, "b": {"c", "d"}, "c": {"a"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}

        assert cycles(imports) == [["a", "b", "c"], ["d", "e"]]

    def test_a_tree_has_none(self):
        assert cycles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []

    def test_a_module_that_imports_itself(self):
        assert cycles({"a": {"a"}}) == [["a"]]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def is_below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def imports_of(root: Path) -> dict[str, set[str]]:
    """The modules of the package in this folder, and which of them each one imports anywhere."""
    paths = {module_name(path, root): path for path in root.rglob("*.py")}
    return {name: set(imported(tree_of(path), set(paths))) for name, path in paths.items()}


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "imports are absolute"
            # What is imported from a package is a module of it, or else a name that it has itself.
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [path if path in modules else node.module for path in paths]
        else:
            continue
        yield from modules.intersection(names)


def cycles(imports: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules of which each gets to all of its group by imports."""
    reached = {name: reachable(name, imports) for name in imports}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in imports
        if name in reached[name]
    }
    return sorted(list(group) for group in groups)


def reachable(name: str, imports: dict[str, set[str]]) -> set[str]:
    """The modules that this one imports, itself or by way of others."""
    found: set[str] = set()
    waiting = list(imports[name])
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(imports[current])
    return found
