"""The protocol on PostgreSQL."""

from __future__ import annotations
