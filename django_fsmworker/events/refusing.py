"""What is written of an event that its row does not take: a sentence, which names the row's state.

So it can be told later whether it still holds: it does not once the row is in another state.
"""

from __future__ import annotations

from functools import lru_cache

from django_fsmworker.exceptions import Refusal

SENTENCES: dict[Refusal, str] = {
    "unknown_event": "The graph declares no such event.",
    "source_state": "It is not taken in the state {state}.",
    "condition": "What it needs is not true of the row, which is in the state {state}.",
    "permission": "Its sender is not allowed to send it in the state {state}.",
}


@lru_cache(maxsize=1000)
def sentences_of(state: str) -> frozenset[str]:
    """All that can be written of events which a row in this state does not take."""
    return frozenset(each.format(state=state) for each in SENTENCES.values())
