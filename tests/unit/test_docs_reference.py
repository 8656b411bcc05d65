"""What is asked of the reference once it is built: that it has every public name."""

from __future__ import annotations

import zlib

import pytest

from tests.inventory import PAGES as DESCRIBING
from tests.inventory import PUBLIC, UNDOCUMENTED, WITH_VERBS, public_names, python_entries, verbs_of
from tests.inventory import problems as problems_of

PAGES = sorted(DESCRIBING)


@pytest.fixture
def complete() -> dict[str, str]:
    """An inventory that has everything; whose address is which is of no interest."""
    names = [*(name for module in PUBLIC for name in public_names(module)), "conf.RunnerSettings"]
    names += [verb for name in WITH_VERBS for verb in verbs_of(name) if verb not in UNDOCUMENTED]
    return {
        f"django_fsmworker.{name}": f"{PAGES[number % len(PAGES)]}#{name}"
        for number, name in enumerate(names)
    }


def test_nothing_is_wrong_with_one_that_has_everything(complete: dict[str, str]) -> None:
    assert list(problems_of(complete)) == []


@pytest.mark.parametrize("module", PUBLIC)
def test_every_module_has_public_names(module: str) -> None:
    assert public_names(module)


@pytest.mark.parametrize("name", WITH_VERBS)
def test_every_class_has_verbs(name: str) -> None:
    assert set(verbs_of(name)) - UNDOCUMENTED


@pytest.mark.parametrize(
    "name",
    [
        "graph.State",
        "models.StatorModel.state_send",
        "signals.state_changed",
        "conf.RunnerSettings",
    ],
)
def test_a_name_that_is_missing_is_named(complete: dict[str, str], name: str) -> None:
    del complete[f"django_fsmworker.{name}"]

    assert list(problems_of(complete)) == [f"{name} is public, but the reference does not have it."]


def test_what_is_documented_after_all_is_named(complete: dict[str, str]) -> None:
    complete["django_fsmworker.graph.State.twin"] = "reference/graph.html"

    (problem,) = problems_of(complete)

    assert problem.startswith("graph.State.twin is said not to be in the reference")


def test_a_page_of_another_kind_is_named(complete: dict[str, str]) -> None:
    complete["django_fsmworker.else"] = "how-to/else.html#else"

    assert list(problems_of(complete)) == [
        "how-to/else.html describes names, or is said to, but not both."
    ]


def test_entries_of_python_are_read() -> None:
    lines = "a.b py:class 1 reference/a.html#$ -\nindex std:doc -1 index.html The index\n"
    packed = b"# one\n# two\n# three\n# four\n" + zlib.compress(lines.encode())

    assert dict(python_entries(packed)) == {"a.b": "reference/a.html#$"}
