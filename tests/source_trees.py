"""Python files of this project, as syntax trees."""

from __future__ import annotations

import ast
import gc
from pathlib import Path


def tree_of(path: Path) -> ast.Module:
    """The file, parsed while nothing is collected.

    CPython 3.11 counts how deep a parse is for all threads together. A finalizer that runs in the
    middle of one lets others parse, as formatting a traceback does, and then it raises
    ``SystemError: AST constructor recursion depth mismatch``.
    """
    text, collects = path.read_text(), gc.isenabled()
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        if collects:
            gc.enable()
