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

from testapp.demo.command import run
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
    def run_it(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*DEMO, *map(str, arguments)]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110
        )

    return run_it


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


# So many that it is not over before it is stopped.
MANY = 1200
FAILING = ("gone", "pipe", "round")


def states() -> dict[str, str]:
    """The state of each row, by the last part of its path."""
    return {Path(row.path).name: row.state for row in File.objects.all()}


def archived(environment: dict[str, str]) -> list[bytes]:
    """What is in the copies, sorted."""
    copies = Path(environment["DATA_DIR"], "demo", "archive").rglob("*.gz")
    return sorted(gzip.decompress(copy.read_bytes()) for copy in copies)


def test_all_files_come_to_their_end_and_the_summary_says_so(
    demo: Any, environment: dict[str, str], folder: Path
) -> None:
    done = demo(folder)

    assert done.returncode == 0, done.stderr
    prove_all_came_to_their_end(environment, folder)
    prove_the_summary_adds_up_and_gives_reasons(done.stdout, environment, folder)


def prove_all_came_to_their_end(environment: dict[str, str], folder: Path) -> None:
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


def prove_the_summary_adds_up_and_gives_reasons(
    output: str, environment: dict[str, str], folder: Path
) -> None:
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


def test_rows_and_copies_expire(demo: Any, environment: dict[str, str], folder: Path) -> None:
    done = demo(folder, "--expire-after", 0.5)

    assert done.returncode == 0, done.stderr
    assert "9 rows expired, 0 copies are left" in done.stdout
    assert sorted(states()) == sorted(FAILING)
    assert archived(environment) == []


@pytest.fixture
def stopped(environment: dict[str, str], folder: Path, eventually: Any) -> Callable[[int], None]:
    """``stopped(signal)``: a demo of many more files, which that signal has ended on the way."""

    def stop(number: int) -> None:
        for name in range(MANY):
            (folder / f"many {name}").write_text(str(name))
        with subprocess.Popen(
            [*DEMO, str(folder)], cwd=ROOT, env=environment, stdout=-1, stderr=-1, text=True
        ) as process:
            eventually(lambda: File.objects.filter(state="archived").exists(), 60)

            process.send_signal(number)
            output, errors = process.communicate(timeout=60)

        assert process.returncode == 130
        assert output.endswith("What is not done yet is due; the next demo starts afresh.\n")
        assert not errors
        assert not File.objects.filter(state_claim__isnull=False).exists()
        assert set(states().values()) > {"archived"}, "it was over before it was stopped"

    return stop


def test_sigterm_ends_it_cleanly(stopped: Callable[[int], None]) -> None:
    stopped(signal.SIGTERM)


def test_after_ctrl_c_the_next_starts_afresh_and_kills_lose_nothing(
    demo: Any, environment: dict[str, str], folder: Path, stopped: Callable[[int], None]
) -> None:
    stopped(signal.SIGINT)
    assert archived(environment)
    for path in [*folder.glob("many *"), folder / "empty"]:
        path.unlink()
    (folder / "more").write_text("more")
    for number in range(20):
        (folder / f"more {number}").write_bytes(os.urandom(10_000))

    done = demo(folder, "--kill", 2)

    assert done.returncode == 0, done.stderr
    first = f"Starting afresh: {MANY + 12:,} rows of the last demo and their copies are gone."
    assert done.stdout.splitlines()[0] == first
    assert done.stdout.count("SIGKILL to the runner") == 2
    assert "found 32: it adds up." in done.stdout
    assert re.search(r"^SIGKILLs: 2, with \d+ different rows in hand; .*, 0 rows lost\.$",
                     done.stdout, re.M)  # fmt: skip
    ends = states()
    assert len(ends) == 32
    assert {name for name, state in ends.items() if state == "failed"} == set(FAILING)
    assert ends["more"] == "archived"
    assert len(archived(environment)) == 26
    assert not list(Path(environment["DATA_DIR"]).rglob("*.part"))


class TestBadInput:
    def test_an_empty_folder(self, demo: Any, tmp_path: Path) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()

        done = demo(empty)

        assert done.returncode == 2
        assert done.stderr == f"demo: There are no files below '{empty}'.\n"

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
            (["/nowhere"], "There is no folder '/nowhere'."),
            ([str(ROOT / "README.md")], f"'{ROOT / 'README.md'}' is a file; name a folder."),
        ],
    )  # fmt: skip
    def test_bad_arguments_are_refused(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """They are read before anything else is done; so this needs no process."""
        assert run(arguments) == 2
        assert capsys.readouterr().err == f"demo: {message}\n"
