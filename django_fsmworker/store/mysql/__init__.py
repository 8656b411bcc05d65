"""The protocol on MariaDB and MySQL."""

from __future__ import annotations
