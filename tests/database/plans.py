"""What PostgreSQL says of a statement that the store sends: its plan, buffers and log."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction


class Planned(Exception):
    """Carries the plan out of the store's method."""


def renew_files(model: Any) -> None:
    """Empty the model's table, with none of the dead rows that tests which were taken back left."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {connection.ops.quote_name(model._meta.db_table)} CASCADE")


@dataclass
class Plan:
    root: dict[str, Any]

    def nodes(self, node: dict[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        node = node or self.root
        yield node
        for child in node.get("Plans", []):
            yield from self.nodes(child)

    @property
    def buffers(self) -> int:
        return int(self.root["Shared Hit Blocks"]) + int(self.root["Shared Read Blocks"])

    @property
    def wal(self) -> int:
        """Bytes written to the log, pages written whole after a checkpoint left out."""
        return int(self.root["WAL Bytes"]) - int(self.root.get("WAL FPI Bytes", 0))

    @property
    def whole_pages(self) -> int:
        return int(self.root["WAL FPI"])

    @property
    def scans(self) -> set[str]:
        """How the table is reached."""
        return {
            node["Node Type"]
            for node in self.nodes()
            if node.get("Relation Name") and "Scan" in node["Node Type"]
        }

    @property
    def indexes(self) -> set[str]:
        return {node["Index Name"] for node in self.nodes() if "Index Name" in node}


def explained(function: Any, *arguments: Any) -> Plan:
    """Run the one statement that ``function`` sends, explained, and take it back."""

    def explain(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "SAVEPOINT" in sql:
            return execute(sql, params, many, context)
        execute(f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {sql}", params, many, context)
        raise Planned(context["cursor"].fetchone()[0][0]["Plan"])

    with transaction.atomic():
        try:
            with connection.execute_wrapper(explain):
                function(*arguments)
        except Planned as planned:
            transaction.set_rollback(True)
            return Plan(planned.args[0])
    raise AssertionError("no statement was sent")
