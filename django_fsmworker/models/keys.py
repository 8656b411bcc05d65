"""The row that has a state: the model that declares it, and the primary key that names it.

Both may be a parent's (a proxy, a multi-table child), and a key may have several columns.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterable, Iterator
from functools import cache, reduce
from hashlib import blake2b, sha256
from operator import or_
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet

# The number of keys in one statement.
MOST_KEYS = 5_000

# Django writes a list of composite keys as one expression, in its version 5.2 on SQLite as deep as
# the list is long; SQLite takes 1,000 levels.
MOST_TUPLES = 400

LONGEST_KEY = 255


def declaring_model(model: type[Model]) -> Any:
    """The concrete model whose table has the state column of ``model``: itself, or a parent.

    A proxy's is the model it stands for; a multi-table child's the parent with the ``StateField``.
    """
    return model._meta.get_field("state").model


def is_in_several_tables(model: Any) -> bool:
    """Whether a row of ``model`` has columns in a parent's table (multi-table inheritance)."""
    return bool(model._meta.concrete_model._meta.parents)


def key_name(model: type[Model]) -> str:
    """What a query calls the key of the row with the state: ``pk``, or the parent's key."""
    owner = declaring_model(model)
    shares_table = model._meta.concrete_model is owner
    return "pk" if shares_table else str(owner._meta.pk.attname)


def key_of(row: Model) -> Any:
    """The primary key of the row with the state; a composite one is a tuple."""
    model: Any = type(row)
    return getattr(row, key_attribute(model))


@cache
def key_attribute(model: Hashable) -> str:
    """The attribute that has an instance's key; not ``pk``, which asks for the key each time."""
    owner = declaring_model(model)  # type: ignore[arg-type]
    return "pk" if is_composite(owner) else str(owner._meta.pk.attname)


def has_key(row: Model) -> bool:
    """Whether every part of the primary key has a value."""
    return None not in (row.pk if is_composite(type(row)) else (row.pk,))


def stored(row: Model, using: str) -> QuerySet[Any]:
    """The row of the database ``using`` that has the state of the instance ``row``, as a queryset.

    It is empty if the row is gone.
    """
    rows: QuerySet[Any] = QuerySet(declaring_model(type(row)), using=using)
    return rows.filter(pk=key_of(row))


def row_key(pk: Any) -> str:
    """A primary key as records have it: its text, shortened and hashed where it is too long.

    That of a composite key is a JSON list: ``[7, "a"]``.
    """
    text = json.dumps(pk, ensure_ascii=False, default=str) if isinstance(pk, tuple) else str(pk)
    if len(text) <= LONGEST_KEY:
        return text
    digest = sha256(text.encode()).hexdigest()
    return f"{text[: LONGEST_KEY - len(digest) - 1]}…{digest}"


def row_digest(text: str) -> str:
    """What a record is found by: no database takes two texts for equal that have different ones."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def log_digest(text: str) -> int:
    """What entries of the transition log are found by: 64 bits, since there are many of them."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def records_of(model: type[Model], keys: Iterable[Any]) -> dict[str, Any]:
    """The condition of the records of rows with these keys, for ``filter()``."""
    label = declaring_model(model)._meta.label
    return {"model": label, "digest__in": [row_digest(row_key(key)) for key in keys]}


def present_rows(model: type[Model], names: list[str], using: str) -> set[str]:
    """The part of ``names``, keys as records have them, for which there is, or may be, a row."""
    rows: QuerySet[Any] = QuerySet(model, using=using)
    present, keys = set(), []
    for name in names:
        if len(name) == LONGEST_KEY and name[-65] == "…":  # its middle is hidden in a digest
            present |= _present_beginning(rows, name)
            continue
        try:
            keys.append(key_from(model, name))
        except (ValueError, ValidationError):
            present.add(name)  # the key had another type then
    for some in portions(keys, MOST_TUPLES):
        present |= {
            row_key(pk) for pk in rows.filter(with_keys(model, some)).values_list("pk", flat=True)
        }
    return present


def key_from(model: type[Model], name: str) -> Any:
    """The key that a record's name tells of."""
    if not is_composite(model):
        return model._meta.pk.to_python(name)
    parts = zip(key_fields(model), json.loads(name), strict=True)
    return tuple(each.to_python(part) for each, part in parts)


def keys_from(model: type[Model], names: Iterable[str]) -> Iterator[Any]:
    """The keys that names tell of; not those that are none, as the type of the key has changed."""
    for name in names:
        try:
            yield key_from(model, name)
        except (ValueError, ValidationError):
            continue


def key_fields(model: type[Model]) -> list[Any]:
    """The columns of the primary key."""
    return list(model._meta.pk_fields)


def _present_beginning(rows: QuerySet[Any], name: str) -> set[str]:
    if is_composite(rows.model):
        return {name}
    found = rows.filter(pk__startswith=name[:-65]).values_list("pk", flat=True)
    return {row_key(pk) for pk in found}


def is_composite(model: type[Model]) -> bool:
    """Whether the primary key of ``model`` has several columns."""
    return hasattr(model._meta.pk, "fields")


def with_keys(model: type[Model], keys: list[Any]) -> Q:
    """The condition that a row of ``model`` has one of these primary keys."""
    if not is_composite(model):
        return Q(pk__in=keys)
    return reduce(or_, (Q(pk__in=some) for some in portions(keys, MOST_TUPLES)), Q(pk__in=[]))


def in_order(keys: Collection[Any]) -> list[Any]:
    """``keys`` in an order that is the same everywhere, also such as Python cannot compare."""
    try:
        return sorted(keys)
    except TypeError:
        return sorted(keys, key=row_key)


def portions(keys: list[Any], size: int) -> Iterator[list[Any]]:
    """``keys`` in lists of at most ``size``: a statement takes only so many parameters."""
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
