"""``python -m testapp demo``: real files, real runners, and numbers that have to add up."""

from __future__ import annotations
