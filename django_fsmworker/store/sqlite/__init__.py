"""The protocol on SQLite."""

from __future__ import annotations
