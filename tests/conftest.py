from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from tests.cleanup import empty_filled_tables_only
from tests.databases import VENDORS, chosen_vendor, database_url
from tests.threads import DatabaseThread
from tests.waiting import eventually as wait_for

UNIT = Path(__file__).parent / "unit"
FILES = sorted(Path(__file__).parent.rglob("test_*.py"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--second-pass",
        action="store_true",
        help="leave out what hardly depends on the database: tests/unit, and what is marked `once`",
    )
    parser.addoption(
        "--long",
        action="store_true",
        help="run the tests marked `long`, too, and the others as long as they may take",
    )

    parser.addoption(
        "--part",
        type=lambda text: tuple(map(int, text.split("/"))),
        metavar="N/M",
        default=(1, 1),
        help="of the files with tests, every M-th from the N-th: what one of M sessions runs",
    )
    parser.addoption(
        "--screenshots",
        type=Path,
        metavar="FOLDER",
        help="where tests/browser/test_looks.py writes its pictures; by default it keeps none",
    )


def pytest_configure() -> None:
    empty_filled_tables_only()


def pytest_report_header() -> str:
    return f"database: {chosen_vendor()}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """What is not in this part of the tests is not even read."""
    if collection_path not in FILES:
        return None
    if config.getoption("second_pass") and UNIT in collection_path.parents:
        return True
    number, parts = config.getoption("part")
    return FILES.index(collection_path) % parts != number - 1 or None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = {item for item in items if _left_out(item, config)}
    if left_out:
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]


def _left_out(item: pytest.Item, config: pytest.Config) -> bool:
    every = config.getoption("long")
    if item.get_closest_marker("long") and not every:
        return True
    marked = [vendor for vendor in VENDORS if item.get_closest_marker(vendor)]
    # One that is not for the database of the first pass has its turn in the second.
    had_its_turn = config.getoption("second_pass") and (not marked or "sqlite" in marked)
    if item.get_closest_marker("once") and had_its_turn and not every:
        return True
    return bool(marked) and chosen_vendor() not in marked


@pytest.fixture(scope="session")
def vendor() -> str:
    """The database under test: ``sqlite``, ``postgresql`` or ``mysql``."""
    return chosen_vendor()


@pytest.fixture
def database_env(database_environment: dict[str, str]) -> dict[str, str]:
    """
    The environment in which a process started by the test works on the *test* databases. The rows
    it is to see have to be committed: ``@pytest.mark.django_db(transaction=True)``.
    """
    return dict(database_environment)


@pytest.fixture(scope="session")
def database_environment(django_db_setup: None) -> dict[str, str]:
    """The same for fixtures that outlast a test."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(connections["default"].settings_dict),
        "DEBUG": "0",
        "DJANGO_SETTINGS_MODULE": "tests.app.settings",
        "OTHER_DATABASE_URL": database_url(connections["other"].settings_dict),
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder for sockets, whose paths have at most 107 bytes: ``TMPDIR`` may be deep."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """``eventually(condition, seconds=25)``: poll until it is true and return what it returned."""
    return wait_for


@pytest.fixture
def start_thread() -> Iterator[Callable[..., DatabaseThread]]:
    """``start_thread(function, *args)``: a thread that closes its connections when it ends."""
    threads: list[DatabaseThread] = []

    def start(target: Callable[..., Any], *args: Any, **kwargs: Any) -> DatabaseThread:
        thread = DatabaseThread(target, *args, **kwargs)
        threads.append(thread)
        thread.start()
        return thread

    yield start
    for thread in threads:
        thread.join(30)
    running = [thread.name for thread in threads if thread.is_alive()]
    assert not running, f"threads left running: {', '.join(running)}"
