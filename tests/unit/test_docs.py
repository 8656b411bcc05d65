"""The documentation, checked against the code: its examples run, its tables are complete."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import doctest
import functools
import inspect
import os
import re
import shlex
import subprocess
import sys
import types
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django.contrib.admin
import pytest
from django.contrib.admin import AdminSite
from django.core.management import BaseCommand, load_command_class
from django.dispatch import Signal
from django.test.utils import isolate_apps

import testapp.carrier
import testapp.models
from django_fsmworker import checks, conf, signals
from django_fsmworker.graph import LimitOptions, State
from django_fsmworker.models import FailureRecord, StatorLog, TransitionRecord, Worker
from django_fsmworker.models.fields import ENGINE_COLUMNS
from django_fsmworker.runner.processes.exit_codes import ExitCode
from tests.app.models import Trouble
from tests.documentation import DOCS, FENCE, blocks, code_words, read, rows
from tests.paths import ROOT
from tests.source_trees import tree_of

SETTINGS = (conf.RunnerSettings, conf.EventSettings, conf.AdminSettings)
PACKAGE = Path(checks.__file__).parent.parent
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
FILE = re.compile(
    r"^```\{code-block\} python\n:caption: (\S+)\n\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def name(path: Path) -> str:
    return str(path.relative_to(DOCS))


class TestExamples:
    """Every ``python`` and ``pycon`` block of every page runs, in the order of the page."""

    @pytest.fixture
    def shop(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """The pages' ``shop`` is the runnable project; what a page declares stays in the page."""
        package = types.ModuleType("shop")
        models = types.ModuleType("shop.models")
        models.__dict__.update({**vars(testapp.models), "Parcel": Trouble})
        package.__dict__.update(models=models, carrier=testapp.carrier)
        monkeypatch.setitem(sys.modules, "shop", package)
        monkeypatch.setitem(sys.modules, "shop.models", models)
        monkeypatch.setitem(sys.modules, "shop.carrier", testapp.carrier)
        monkeypatch.setattr(django.contrib.admin, "site", AdminSite())
        receivers = {signal: list(signal.receivers) for signal in every_signal()}
        with isolate_apps("testapp"):
            yield
        for signal, before in receivers.items():
            signal.receivers = before
            signal.sender_receivers_cache.clear()

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("page", [page for page in PAGES if blocks(page.read_text())], ids=name)
    def test_the_page_s_blocks_run(self, page: Path, shop: None) -> None:
        module = types.ModuleType("testapp.docs")

        for number, (language, code) in enumerate(blocks(page.read_text()), 1):
            where = f"{name(page)}, block {number}"
            if language == "pycon":
                compare(code, vars(module), where)
            else:
                exec(compile(code, where, "exec"), vars(module))

        run_tests_in(module)


def every_signal() -> list[Signal]:
    return [signal for signal in vars(signals).values() if isinstance(signal, Signal)]


def compare(code: str, names: dict[str, Any], where: str) -> None:
    parsed = doctest.DocTestParser().get_doctest(code, {}, where, where, 0)
    parsed.globs = names
    runner = doctest.DocTestRunner(verbose=False)
    report: list[str] = []
    result = runner.run(parsed, out=report.append, clear_globs=False)
    assert not result.failed, "".join(report)


def run_tests_in(module: types.ModuleType) -> None:
    """Run the test cases that a page declares."""
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(case)
        for case in vars(module).values()
        if inspect.isclass(case)
        and issubclass(case, unittest.TestCase)
        and case.__module__ == module.__name__
    )
    result = unittest.TestResult()
    suite.run(result)
    problems = [text for _, text in [*result.errors, *result.failures]]
    assert not problems, "\n".join(problems)


COMMAND = re.compile(r"^\$ .*?python manage\.py (runstator|stator) ?([^|\n]*)", re.MULTILINE)


class TestCommands:
    """What a reader copies from the pages is understood by the commands."""

    @pytest.mark.parametrize(
        ("command", "arguments"),
        sorted({each for page in PAGES for each in COMMAND.findall(page.read_text())}),
        ids=" ".join,
    )
    def test_are_understood(self, command: str, arguments: str) -> None:
        if "…" in arguments:  # how it is called in general
            return
        parser = load_command_class("django_fsmworker", command).create_parser("manage.py", command)

        parser.parse_args(shlex.split(arguments.partition(" > ")[0]))


class TestTutorial:
    """The tutorial is followed: its files are written and its ``sh`` blocks run, in its order."""

    @pytest.fixture
    def environment(self, tmp_path: Path) -> dict[str, str]:
        programs = tmp_path / "bin"
        programs.mkdir()
        (programs / "python").symlink_to(sys.executable)
        admin = programs / "django-admin"
        admin.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m django "$@"\n')
        admin.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if "DJANGO" not in name}
        # A link to the interpreter does not know its virtual environment.
        paths = [str(ROOT), *filter(None, sys.path)]
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": path, "PYTHONPATH": os.pathsep.join(paths)}

    def test_can_be_followed(self, tmp_path: Path, environment: dict[str, str]) -> None:
        folder = tmp_path / "tutorial"
        folder.mkdir()
        said = ""

        for step in tutorial_steps(read("tutorial.md")):
            if isinstance(step, tuple):
                write(folder / step[0], step[1])
                continue
            done = subprocess.run(
                ["sh", "-e"], input=step, cwd=folder, env=environment, text=True,
                capture_output=True,
            )  # fmt: skip
            assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
            said += done.stdout

        for output in re.findall(r"^```text\n(.*?)^```$", read("tutorial.md"), re.M | re.S):
            assert output in said

    def test_uses_the_order_of_the_test_project(self) -> None:
        models = dict(FILE.findall(read("tutorial.md")))["orders/models.py"]
        ours = inspect.getsource(testapp.models.orders)

        assert models.partition("class ")[2] == ours.partition("class ")[2]


def tutorial_steps(text: str) -> Iterator[str | tuple[str, str]]:
    """Its files as ``(path, content)`` and its commands, in their order."""
    steps: list[tuple[int, str | tuple[str, str]]] = []
    for block in FILE.finditer(text):
        steps.append((block.start(), (block[1], block[2])))
    for block in FENCE.finditer(text):
        if block[1] == "sh":
            steps.append((block.start(), block[2]))
    for _, step in sorted(steps, key=lambda each: each[0]):
        yield step


def write(path: Path, content: str) -> None:
    """Settings are added at the end, as the tutorial says; any other file is written whole."""
    before = path.read_text() if path.name == "settings.py" else ""
    path.write_text(before + content)


class TestReference:
    """Tables that would drift away from the code."""

    def test_it_has_every_setting_and_its_default(self) -> None:
        table = rows("reference/settings.md", "| name | default |")

        documented = {
            re.sub(r"\W", "", name.partition("]")[0]): (default, accepts, ancestor.strip("`"))
            for name, default, accepts, ancestor in table
        }

        assert documented == {
            each.name: (
                shown_default(each.default),
                conf._EXPECTED[each.metadata["reads"]].partition(" (")[0],
                each.metadata["ancestor"] or "",
            )
            for group in SETTINGS
            for each in dataclasses.fields(group)
        }
        assert list(documented) == [name for group in SETTINGS for name in group.names()]

    def test_every_setting_has_a_section(self) -> None:
        headings = re.findall(r"^## (\w+)$", read("reference/settings.md"), re.MULTILINE)

        assert headings == [name for group in SETTINGS for name in group.names()]

    def test_it_has_every_system_check(self) -> None:
        sources = [path.read_text() for path in PACKAGE.rglob("*.py")]
        ids = re.findall(r"fsmworker\.[EW]\d{3}", "".join(sources))
        headings = re.findall(r"^## (\S+)$", read("reference/checks.md"), re.MULTILINE)

        assert headings == sorted(set(ids))

    def test_it_has_every_option_of_a_state(self) -> None:
        *options, _ = list(inspect.signature(State.__init__).parameters.values())[1:]

        documented = [
            (cells[0].strip("`"), cells[1].strip("`"))
            for cells in rows("reference/graph.md", "| option | default |")
        ]

        assert documented == [
            *((option.name, str(option.default)) for option in options),
            *((name, "None") for name in LimitOptions.__annotations__),
        ]

    def test_it_has_every_column_and_its_type(self) -> None:
        table = rows("reference/model.md", "| column | type |")

        assert code_words([cells[0] for cells in table]) == list(ENGINE_COLUMNS)
        for cells in table[:-3]:  # the last ones are declared by few models
            field: Any = testapp.models.Order._meta.get_field(cells[0].strip("`"))
            assert cells[1] == f"`{field.plain.__name__}`" + (", null" if field.null else "")

    @pytest.mark.parametrize("model", [FailureRecord, StatorLog, TransitionRecord, Worker])
    def test_it_has_every_column_of_the_records(self, model: Any) -> None:
        page = "workers" if model is Worker else "model"
        table = rows(f"reference/{page}.md", f"| `{model.__name__}` |")

        documented = set(code_words([cells[0] for cells in table]))

        assert documented == {field.name for field in model._meta.fields} - {"id"} | (
            {"id"} if model is Worker else set()
        )

    def test_it_has_every_option_of_the_command(self) -> None:
        table = rows("reference/command.md", "| option | meaning |")
        command = load_command_class("django_fsmworker", "runstator")
        of_django = BaseCommand().create_parser("manage.py", "x")._option_string_actions

        documented = [word for cells in table for word in re.findall(r"`(-[\w-]+)`", cells[0])]

        options = command.create_parser("manage.py", "runstator")._option_string_actions
        assert documented == [
            name
            for name, action in options.items()
            if name not in of_django and action.help != argparse.SUPPRESS  # refused
        ]

    def test_it_has_the_exit_codes(self) -> None:
        codes = {cells[0]: cells[1] for cells in rows("reference/command.md", "| code | meaning |")}

        assert "stuck" in codes[str(ExitCode.TOO_MANY_ABANDONED.value)]
        assert "watchdog" in codes[str(ExitCode.STALLED.value)]


def shown_default(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:.10g}"


class TestArchitecture:
    TABLE = [
        *rows("explanation/architecture.md", "| a row is | file |"),
        *rows("explanation/architecture.md", "| processes are | file |"),
    ]

    def test_each_question_has_one_answer(self) -> None:
        for word in ("claimed", "fenced", "renewed", "run", "settled", "run on", "timed out",
                     "expired", "hinted", "guarded"):  # fmt: skip
            answers = [cells for cells in self.TABLE if cells[0].partition(" (")[0] == word]
            assert len(answers) == 1, word

    @pytest.mark.parametrize("cells", TABLE, ids=lambda cells: cells[0])
    def test_the_file_defines_what_is_to_be_looked_for(self, cells: list[str]) -> None:
        file, name = cells[1].strip("`"), cells[2].strip("`")

        tree = tree_of(PACKAGE / file)

        assert name in {
            node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)
        }

    def test_every_file_named_exists(self) -> None:
        page = read("explanation/architecture.md")

        missing = [path for path in re.findall(r"`([\w/]+(?:\.py|/))`", page)
                   if path != "django_fsmworker/" and not (PACKAGE / path).exists()]  # fmt: skip

        assert not missing

    @pytest.mark.parametrize(
        "word",
        sorted(set(re.findall(r"`(?:Store\.|State\.)?([A-Z]\w+)`|│ +([A-Z]\w+) +[│├]",
                              read("explanation/architecture.md")))),
        ids="".join,
    )  # fmt: skip
    def test_every_class_named_is_in_the_package(self, word: tuple[str, str]) -> None:
        assert f"class {''.join(word)}" in every_source()


@functools.cache
def every_source() -> str:
    return "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
