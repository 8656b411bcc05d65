"""What the demo can be told; wrong input gets one sentence."""

from __future__ import annotations

import argparse
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from django_fsmworker.conf import positive_integer, positive_seconds

DESCRIPTION = """\
Every file below FOLDER becomes a row, whose life is: fingerprinted (SHA-256, size, type), found to
be a duplicate or archived as a compressed copy, the copy read back and compared, and one day
expired. The runner that does it is `manage.py runstator`, in a process of its own. Each demo starts
afresh: the rows and copies of the one before are removed. The files themselves are only read."""


class BadInput(Exception):
    """Something that the user can put right; the message says what."""


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    folder: Path
    default: bool
    kill: int
    processes: int
    expire_after: float | None


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line; raises ``BadInput``."""
    parser = _Parser(prog="python -m testapp demo", description=DESCRIPTION)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "folder", nargs="?", metavar="FOLDER",
        help="whose files to take (default: Python's standard library)",
    )  # fmt: skip
    parser.add_argument(
        "--kill", type=_reads(_number, "a whole number, 0 or more"), default=0, metavar="N",
        help="kill the runner with SIGKILL N times while it holds rows",
    )  # fmt: skip
    parser.add_argument(
        "--processes", type=_reads(positive_integer, "a whole number above 0"), default=1,
        metavar="N", help="how many runners work at once (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--expire-after", type=_reads(positive_seconds, "a number of seconds above 0"),
        metavar="SECONDS", help="when all is done, let the rows expire this soon and show it",
    )  # fmt: skip
    given = parser.parse_args(arguments)
    folder = _folder(given.folder or sysconfig.get_path("stdlib"))
    return Options(folder, given.folder is None, given.kill, given.processes, given.expire_after)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message[:1].upper()}{message[1:]}.")


def _reads(type_: Callable[[str], Any], expected: str) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return type_(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None

    return parse


def _number(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _folder(name: str) -> Path:
    folder = Path(name).expanduser()
    try:
        if folder.is_dir():
            return folder.resolve()
    except OSError as error:
        raise BadInput(f"The folder {name!r} cannot be read: {error.strerror}.") from error
    if folder.exists():
        raise BadInput(f"{name!r} is a file; name a folder.")
    raise BadInput(f"There is no folder {name!r}.")
