"""The demo, as a user runs it, on a small folder."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testapp.models import File
from tests.paths import ROOT

DEMO = [sys.executable, "-m", "testapp", "demo"]

pytestmark = [pytest.mark.once, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def environment(database_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    return {
        **database_env,
        "DJANGO_SETTINGS_MODULE": "testapp.settings",
        "DATA_DIR": str(tmp_path / "data"),
    }


@pytest.fixture
def demo(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*DEMO, *map(str, arguments)]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
        )

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve files: five contents in nine of them, and three that cannot be read."""
    folder = tmp_path / "folder"
    below = folder / "below [red]it[/red]"
    below.mkdir(parents=True)
    for number, place in enumerate([folder, folder, below, below]):
        (place / f"same {number}.txt").write_text("the same\n" * 1000)
    (folder / "empty").touch()
    (folder / "empty too").touch()
    (folder / "two\nlines\x1b[2J.html").write_text("<p>odd name</p>")
    (folder / "back\\slash \\xff ü.json").write_text("{}")
    Path(os.fsdecode(bytes(below) + b"/not utf-8 \xff\xfe")).write_bytes(os.urandom(100_000))
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "round").symlink_to(folder / "round")
    os.mkfifo(folder / "pipe")
    (below / "loop").symlink_to(folder)
    return folder


FAILING = ("gone", "pipe", "round")


def states() -> dict[str, str]:
    """The state of each row, by the last part of its path."""
    return {Path(row.path).name: row.state for row in File.objects.all()}


def archived(environment: dict[str, str]) -> list[bytes]:
    """What is in the copies, sorted."""
    copies = Path(environment["DATA_DIR"], "demo", "archive").rglob("*.gz")
    return sorted(gzip.decompress(copy.read_bytes()) for copy in copies)


class TestFiles:
    def test_all_come_to_their_end(
        self, demo: Any, environment: dict[str, str], folder: Path
    ) -> None:
        done = demo(folder)

        assert done.returncode == 0, done.stderr
        ends = states()
        assert len(ends) == 12
        assert {name for name, state in ends.items() if state == "failed"} == set(FAILING)
        assert sorted(ends.values()).count("archived") == 5
        assert sorted(ends.values()).count("duplicate") == 4
        same = [state for name, state in ends.items() if name.startswith("same")]
        assert sorted(same) == ["archived", "duplicate", "duplicate", "duplicate"]
        contents = {path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert archived(environment) == sorted(contents)

        odd = File.objects.get(path__contains="lines")
        assert (odd.size, odd.type) == (15, "text/html")
        assert str(odd).endswith("two\\nlines\\x1b[2J.html")

    def test_the_summary_adds_up_and_gives_reasons(
        self, demo: Any, environment: dict[str, str], folder: Path
    ) -> None:
        output = demo(folder).stdout

        lines, place = output.splitlines(), str(folder)
        assert any("12 of 12 done" in line for line in lines)
        assert "\x1b" not in output
        log = Path(environment["DATA_DIR"], "demo", "runner.log").read_text()
        assert log.splitlines()[-1].startswith("stopped: moved=")
        assert "archived + duplicate + failed = 5 + 4 + 3 = 12; found 12: it adds up." in lines
        assert any(re.fullmatch(r"It took [\d.]+ s: \d+ rows/s, \d+ checks, .*", x) for x in lines)
        assert "Why 3 rows failed:" in output
        assert f"  {place}/gone: FileNotFoundError: [Errno 2] No such file" in output
        assert f"  {place}/pipe: NotAFile: '{place}/pipe' is a named pipe." in output
        assert f"  {place}/round: OSError: [Errno 40] Too many levels" in output


class TestSecondRun:
    def test_it_starts_afresh(self, demo: Any, environment: dict[str, str], folder: Path) -> None:
        demo(folder)
        (folder / "empty").unlink()
        (folder / "more").write_text("more")

        done = demo(folder)

        assert done.returncode == 0, done.stderr
        first = "Starting afresh: 12 rows of the last demo and their copies are gone."
        assert done.stdout.splitlines()[0] == first
        assert File.objects.count() == 12
        assert states()["more"] == "archived"
        assert len(archived(environment)) == 6


class TestKill:
    def test_nothing_is_lost(self, demo: Any, environment: dict[str, str], folder: Path) -> None:
        for number in range(60):
            (folder / f"more {number}").write_bytes(os.urandom(10_000))

        done = demo(folder, "--kill", 2)

        assert done.returncode == 0, done.stderr
        assert done.stdout.count("SIGKILL to the runner") == 2
        assert "found 72: it adds up." in done.stdout
        assert re.search(r"^SIGKILLs: 2, with \d+ different rows in hand; .*, 0 rows lost\.$",
                         done.stdout, re.M)  # fmt: skip
        assert {name for name, state in states().items() if state == "failed"} == set(FAILING)
        assert len(archived(environment)) == 65
        assert not list(Path(environment["DATA_DIR"]).rglob("*.part"))


class TestExpiry:
    def test_rows_and_copies_go(self, demo: Any, environment: dict[str, str], folder: Path) -> None:
        done = demo(folder, "--expire-after", 0.5)

        assert done.returncode == 0, done.stderr
        assert "9 rows expired, 0 copies are left" in done.stdout
        assert sorted(states()) == sorted(FAILING)
        assert archived(environment) == []


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_it_ends_cleanly(
        self, number: int, environment: dict[str, str], folder: Path, eventually: Any
    ) -> None:
        for name in range(10_000):
            (folder / f"more {name}").write_text(str(name))
        with subprocess.Popen(
            [*DEMO, str(folder)], cwd=ROOT, env=environment, stdout=-1, stderr=-1, text=True
        ) as process:
            eventually(lambda: File.objects.filter(state="archived").exists(), 30)

            process.send_signal(number)
            output, errors = process.communicate(timeout=30)

        assert process.returncode == 130
        assert output.endswith("What is not done yet is due; the next demo starts afresh.\n")
        assert not errors
        assert not File.objects.filter(state_claim__isnull=False).exists()


class TestBadInput:
    def refused(self, demo: Any, *arguments: object) -> str:
        done = demo(*arguments)
        assert done.returncode == 2
        [line] = done.stderr.splitlines()
        return str(line)

    def test_no_such_folder(self, demo: Any) -> None:
        assert self.refused(demo, "/nowhere") == "demo: There is no folder '/nowhere'."

    def test_a_file_is_refused(self, demo: Any) -> None:
        assert self.refused(demo, "README.md") == "demo: 'README.md' is a file; name a folder."

    def test_an_empty_folder(self, demo: Any, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()

        assert self.refused(demo, empty) == f"demo: There are no files below '{empty}'."

    def test_a_database_that_is_not_there(
        self, environment: dict[str, str], tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        for name, value in (
            ("DATABASE_URL", "postgres://x:y@127.0.0.1:1/none"),
            ("DATABASE_URL", "unknown://"),
            ("DATA_DIR", str(tmp_path / "file" / "below")),
        ):
            done = subprocess.run(
                [*DEMO, str(tmp_path)],
                cwd=ROOT,
                env=environment | {name: value},
                capture_output=True,
                text=True,
            )

            assert done.returncode in (1, 2)
            assert done.stderr.startswith("demo: ")
            assert "Traceback" not in done.stderr

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--kill", "-1"], "Argument --kill: '-1' is not a whole number, 0 or more."),
            (["--processes", "0"], "Argument --processes: '0' is not a whole number above 0."),
            (["--expire-after", "soon"],
             "Argument --expire-after: 'soon' is not a number of seconds above 0."),
            (["a", "b"], "Unrecognized arguments: b."),
        ],
    )  # fmt: skip
    def test_bad_options_are_refused(self, demo: Any, arguments: list[str], message: str) -> None:
        assert self.refused(demo, *arguments) == f"demo: {message}"
