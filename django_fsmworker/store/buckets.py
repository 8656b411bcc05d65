"""Rates: each attempt takes a token out of a bucket, into which they come back at that rate.

The bucket is kept as one moment, that at which it is full again (the "generic cell rate algorithm"
of ATM networks, ITU-T I.371), on the database's clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from django_fsmworker.graph import Rate
from django_fsmworker.models.functions import DatabaseLater, DatabaseNow
from django_fsmworker.models.limits import Bucket, key_digest, key_text
from django_fsmworker.store.interface import Store

# A moment has whole microseconds: what is missing of a token is rounding.
ALMOST = 1e-4


@dataclass(slots=True)
class Tokens:
    """What a claim was given: tokens by key, and where there were too few the wait for the next."""

    granted: dict[Any, int]
    wait: dict[Any, float]


def take(store: Store, model: Any, state: str, rate: Rate, wanted: Mapping[Any, int]) -> Tokens:
    """Take up to the ``wanted`` number of tokens of each key.

    The keys are values of a column, or ``WHOLE_LANE``.
    """
    by_digest = {key_digest(key): key for key, number in wanted.items() if number > 0}
    tokens = Tokens(dict.fromkeys(wanted, 0), {})
    missing = _take(store, model, state, rate, wanted, by_digest, tokens)
    if missing:
        _make(store, model, state, [by_digest[digest] for digest in missing])
        new = {digest: by_digest[digest] for digest in missing}
        _take(store, model, state, rate, wanted, new, tokens)
    return tokens


def give_back(store: Store, model: Any, state: str, rate: Rate, unused: Mapping[Any, int]) -> None:
    """Return tokens that no row was found for."""
    by_digest = {key_digest(key): number for key, number in unused.items() if number > 0}
    if not by_digest:
        return
    with store.transaction():
        buckets = list(_locked(store, model, state, by_digest))
        for bucket in buckets:
            bucket.full_at -= timedelta(seconds=by_digest[bucket.digest] * rate.interval)
        _buckets(store).bulk_update(buckets, ["full_at"])


def available(alias: str, label: str, state: str, rate: Rate, key: Any) -> tuple[int, float]:
    """How many tokens a key has at the moment, and the seconds until the next one is there."""
    rows: QuerySet[Bucket] = QuerySet(Bucket, using=alias)
    lane = rows.filter(model=label, state=state, digest=key_digest(key))
    found = lane.annotate(now=DatabaseNow()).values_list("full_at", "now").first()
    if found is None:
        return rate.depth, 0.0
    return _tokens(rate, *found)


def purge(alias: str, older: float) -> None:
    """Remove buckets that have been full for so many seconds."""
    rows: QuerySet[Bucket] = QuerySet(Bucket, using=alias)
    rows.filter(full_at__lt=DatabaseLater(-older)).delete()


def _take(
    store: Store,
    model: Any,
    state: str,
    rate: Rate,
    wanted: Mapping[Any, int],
    by_digest: Mapping[str, Any],
    tokens: Tokens,
) -> set[str]:
    """Take tokens out of the buckets that there are; returns the digests of those to be made."""
    changed = []
    with store.transaction():
        buckets = list(_locked(store, model, state, by_digest).annotate(now=DatabaseNow()))
        for bucket in buckets:
            key, now = by_digest[bucket.digest], bucket.now
            there, wait = _tokens(rate, bucket.full_at, now)
            granted = tokens.granted[key] = min(there, wanted[key])
            if granted:
                spent = timedelta(seconds=granted * rate.interval)
                bucket.full_at = max(bucket.full_at, now) + spent
                changed.append(bucket)
                _, wait = _tokens(rate, bucket.full_at, now)
            if granted < wanted[key]:
                tokens.wait[key] = wait
        if changed:
            _buckets(store).bulk_update(changed, ["full_at"])
    return by_digest.keys() - {bucket.digest for bucket in buckets}


def _tokens(rate: Rate, full_at: datetime, now: datetime) -> tuple[int, float]:
    """The tokens in a bucket, and the seconds until there is one (more)."""
    lacking = max(0.0, (full_at - now).total_seconds() / rate.interval)
    there = max(0, int(rate.depth - lacking + ALMOST))
    return there, max(0.0, (lacking - rate.depth + there + 1) * rate.interval)


def _locked(store: Store, model: Any, state: str, digests: Any) -> QuerySet[Bucket]:
    """The buckets, locked in the order of their keys; who comes second waits for a moment."""
    lane = _buckets(store).filter(model=model._meta.label, state=state, digest__in=list(digests))
    return lane.order_by("digest").select_for_update()


def _make(store: Store, model: Any, state: str, keys: list[Any]) -> None:
    now = store.now()
    new = [
        Bucket(
            model=model._meta.label,
            state=state,
            key=key_text(key),
            digest=key_digest(key),
            full_at=now,
        )
        for key in sorted(keys, key=key_digest)
    ]
    _buckets(store).bulk_create(new, ignore_conflicts=True)


def _buckets(store: Store) -> QuerySet[Bucket]:
    return QuerySet(Bucket, using=store.alias)
