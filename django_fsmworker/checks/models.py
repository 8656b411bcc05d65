"""What a model with a life has to look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import router
from django.utils.module_loading import import_string

from django_fsmworker.checks.permissions import is_unknown_permission
from django_fsmworker.graph import StateGraph
from django_fsmworker.graph.events import is_condition
from django_fsmworker.models.fields import LIFE_ENDS, StateField, StateLifeEndsField
from django_fsmworker.models.indexes import key_columns, own_column
from django_fsmworker.models.stator_model import StatorModel
from django_fsmworker.store.guards import fault_of
from django_fsmworker.store.tables import relation_fault_of

# Kinds of fields whose values are not told apart in a list of keys, or in a set.
UNMATCHED = {"ArrayField", "BinaryField", "HStoreField", "JSONField"}


def check_models(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Called by Django."""
    found: list[CheckMessage] = []
    for model in apps.get_models():
        if issubclass(model, StatorModel) and not model._meta.proxy:
            found += _check_model(model)
    return found


def _check_model(model: Any) -> Iterator[CheckMessage]:
    meta = model._meta
    fields = [field for field in meta.fields if isinstance(field, StateField)]
    if not fields:
        yield Error(
            f"{meta.label} has no state field.",
            hint="Declare 'state = StateField(YourGraph)' on it.",
            obj=model,
            id="fsmworker.E001",
        )
        return
    field = fields[0]
    if field.name != "state" or len(fields) > 1:
        yield Error(
            f"The state field of {meta.label} has to be a single one named 'state'.",
            hint="Name it 'state'; a row has one life.",
            obj=model,
            id="fsmworker.E002",
        )
        return
    if field.graph is None:
        yield Error(
            f"{meta.label}.state has no graph.",
            hint="Declare 'state = StateField(YourGraph)'.",
            obj=model,
            id="fsmworker.E003",
        )
        return
    if field.model is not model:
        return  # A multi-table child: its parent is checked.
    yield from _check_table(model)
    yield from _check_guards(model, field.graph)
    yield from _check_events(model, field.graph)
    yield from _check_relations(model, field.graph)
    yield from _check_keys(model, field.graph)
    yield from _check_lifetime(model, field.graph)
    yield from _check_tenant(model)
    for name in field.graph.states:
        if len(name) > (field.max_length or 0):
            yield Error(
                f"The state {name!r} of {meta.label} is longer than max_length={field.max_length}.",
                hint=f"Shorten it, or declare StateField(..., max_length={len(name)}).",
                obj=model,
                id="fsmworker.E006",
            )


def _check_table(model: Any) -> Iterator[CheckMessage]:
    """The columns of one life are in one table, whose key tells rows apart."""
    meta = model._meta
    owners = {each.name: meta.get_field(each.name).model for each in StatorModel._meta.fields}
    elsewhere = [name for name, owner in owners.items() if owner is not model]
    if elsewhere:
        yield Error(
            f"{meta.label} has the state in its own table, but {elsewhere[0]} in that of "
            f"{owners[elsewhere[0]]._meta.label}.",
            hint="Make the parent abstract, or declare 'state = StateField(YourGraph)' on it.",
            obj=model,
            id="fsmworker.E004",
        )
    for field in getattr(meta.pk, "fields", [meta.pk]):
        kind = _value_field(field).get_internal_type()
        if kind in UNMATCHED:
            yield Error(
                f"The primary key of {meta.label} has a {kind}, by which a runner cannot find a "
                f"row again.",
                hint="Give it another primary key, and a UniqueConstraint on what is now the key.",
                obj=model,
                id="fsmworker.E005",
            )


def _check_guards(model: Any, graph: type[StateGraph]) -> Iterator[CheckMessage]:
    """What only the model can tell: whether it has the fields that a condition names."""
    alias = router.db_for_write(model)
    for edge in [edge for state in graph.states.values() for edge in state.guards]:
        fault = fault_of(edge, model, alias)
        if fault is not None:
            yield Error(
                f"The guard from {edge.source!r} to {edge.target} cannot be asked about rows of "
                f"{model._meta.label}: {fault}",
                hint="Give when= a condition that filter() of the model takes, without aggregates; "
                "count in a Subquery.",
                obj=model,
                id="fsmworker.E011",
            )


def _check_events(model: Any, graph: type[StateGraph]) -> Iterator[CheckMessage]:
    """What only the model can tell of events: the fields in their conditions, and their forms."""
    alias = router.db_for_write(model)
    tried = [edges for state in graph.states.values() for edges in state.events.values()]
    for edge in [edge for edges in tried for edge in edges]:
        fault = fault_of(edge, model, alias) if is_condition(edge.when) else None
        if fault is not None:
            yield Error(
                f"The condition of on({edge.trigger!r}) of {edge.source!r} cannot be asked about "
                f"rows of {model._meta.label}: {fault}",
                hint="Give when= a condition that filter() of the model takes, without aggregates; "
                "count in a Subquery.",
                obj=model,
                id="fsmworker.E015",
            )
        if isinstance(edge.form, str) and (reason := _import_fault(edge.form)):
            yield Error(
                f"The form of on({edge.trigger!r}) of {edge.source!r} cannot be imported: {reason}",
                hint="Correct the dotted path, or give the class.",
                obj=model,
                id="fsmworker.E016",
            )
        if isinstance(edge.permission, str) and is_unknown_permission(edge.permission):
            yield Warning(
                f"No model declares the permission {edge.permission!r} of on({edge.trigger!r}) of "
                f"{edge.source!r}: nobody but superusers has it.",
                hint="Correct it, or add it to the permissions in a model's Meta.",
                obj=model,
                id="fsmworker.W006",
            )


def _import_fault(path: str) -> str | None:
    try:
        import_string(path)
    except ImportError as error:
        return str(error)
    return None


def _check_relations(model: Any, graph: type[StateGraph]) -> Iterator[CheckMessage]:
    for state in graph.states.values():
        for name in state.select_related:
            fault = relation_fault_of(model, name)
            if fault is not None:
                yield Error(
                    f"The state {state.name!r} of {model._meta.label} has "
                    f"select_related={name!r}, which cannot be loaded: {fault}",
                    hint="Name foreign keys and one-to-one fields, joined by '__'.",
                    obj=model,
                    id="fsmworker.E020",
                )


def _check_keys(model: Any, graph: type[StateGraph]) -> Iterator[CheckMessage]:
    """The columns by which states are limited are in the row's own table, and tell keys apart."""
    for name, states in key_columns(graph).items():
        column = own_column(model._meta, name)
        if column is None:
            yield Error(
                f"The state {states[0]!r} of {model._meta.label} is limited by {name!r}, which is "
                f"no column of its own table.",
                hint="Name a column of the table that has the state; a claim looks at no other "
                "table. Copy what another one has.",
                obj=model,
                id="fsmworker.E021",
            )
        elif (kind := _value_field(column).get_internal_type()) in UNMATCHED:
            yield Error(
                f"The state {states[0]!r} of {model._meta.label} is limited by {name!r}, a "
                f"{kind}, whose values are not told apart.",
                hint="Name a column with numbers, texts, dates or UUIDs.",
                obj=model,
                id="fsmworker.E021",
            )


def _check_lifetime(model: Any, graph: type[StateGraph]) -> Iterator[CheckMessage]:
    """A graph with a lifetime and the column for it go together."""
    own = model._meta.local_concrete_fields
    ends = [field.name for field in own if isinstance(field, StateLifeEndsField)]
    if graph.declared_lifetime is not None and ends != [LIFE_ENDS]:
        yield Error(
            f"{graph.__name__} declares a lifetime, and {model._meta.label} has no column for the "
            f"end of a row's life.",
            hint="Declare 'state_life_ends = StateLifeEndsField()' on it.",
            obj=model,
            id="fsmworker.E022",
        )
    elif graph.declared_lifetime is None and ends:
        yield Warning(
            f"{model._meta.label}.{ends[0]} is for the end of a row's life, and {graph.__name__} "
            f"declares no lifetime, so no life ends.",
            hint="Declare StateGraph.lifetime(target, after) in the graph, or remove the field.",
            obj=model,
            id="fsmworker.W005",
        )


def _check_tenant(model: Any) -> Iterator[CheckMessage]:
    if model.state_tenant is not None and own_column(model._meta, model.state_tenant) is None:
        yield Error(
            f"{model._meta.label} has state_tenant = {model.state_tenant!r}, which is no column of "
            f"its own table.",
            hint="Name a column of the table that has the state; a line of the log loads nothing.",
            obj=model,
            id="fsmworker.E023",
        )


def _value_field(field: Any) -> Any:
    """The field that a foreign key has its values from, or ``field`` itself."""
    return _value_field(field.target_field) if field.remote_field else field
