"""
``python -m tests.third_party [--folder PATH] [pytest's arguments]``: the package beside others.

The others are installed into an environment of their own, which is kept in the folder: ``data/`` in
the checkout unless given.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from tests.paths import ROOT

SETTINGS = "tests.third_party.settings"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.third_party", allow_abbrev=False)
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "third-party")
    options, for_pytest = parser.parse_known_args(arguments)
    python = environment(options.folder.absolute())
    command = [str(python), "-m", "tests", "--database", "sqlite", "--database", "postgresql"]
    return subprocess.call(
        [*command, f"--ds={SETTINGS}", "--nomigrations", "tests/third_party", *for_pytest],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": SETTINGS},
    )


def environment(folder: Path) -> Path:
    """The interpreter of an environment with the other packages; installed if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet"]
    subprocess.check_call([*install, "--upgrade", "pip>=25.1"])
    subprocess.check_call([*install, "--editable", ".", "--group", "third-party"], cwd=ROOT)
    return python


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
