"""The app of the tests: models of theirs, beside those of the runnable project."""

from __future__ import annotations
