"""The extra fields that a line of the log about rows has, beside its action."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django_fsmworker.models.fields import in_a_row
from django_fsmworker.models.tenants import tenant_of
from django_fsmworker.traces import id_of


def row_fields(
    rows: Sequence[Any],
    pk: Any,
    state: str,
    worker: str,
    *,
    attempt: int | None = None,
    trace: str = "",
) -> dict[str, Any]:
    """The fields of a line about ``rows`` of one model, which the line calls ``pk``.

    ``attempt`` counts those in a row that failed, this one included; None: it is worked out.
    Without a trace, and for a model that names no tenant, there is no field for it.
    """
    fields = {
        "model": type(rows[0])._meta.label,
        "pk": pk,
        "state": state,
        "attempt": attempt or max(map(_attempt, rows)),
        "worker": worker,
    }
    tenants = {str(tenant): tenant for tenant in map(tenant_of, rows)}
    if len(tenants) == 1 and (tenant := tenants.popitem()[1]) is not None:
        fields["tenant"] = tenant
    if trace:
        fields["trace_id"] = id_of(trace)
    return fields


def _attempt(row: Any) -> int:
    return 1 + in_a_row(row.__dict__.get("state_failures") or 0)
