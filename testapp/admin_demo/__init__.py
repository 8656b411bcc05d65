"""``python -m testapp admin``: the admin of a fleet that has its troubles."""

from __future__ import annotations
