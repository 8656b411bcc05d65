"""A network that is not there: endpoints answer as their rows say."""

from __future__ import annotations

import asyncio
from typing import Any

SLOW = 15.0
"""The seconds for which a slow endpoint keeps a call waiting, before it asks to be called again."""


async def post(endpoint: Any) -> bool:
    """Call an endpoint; whether it took the message.

    A slow one does not answer. One that is down refuses the connection, and a broken one answers
    what nobody can read.
    """
    behaviour = endpoint.Behaviour(endpoint.behaviour)
    if behaviour == endpoint.Behaviour.DOWN:
        raise ConnectionRefusedError(f"{endpoint.name}: connection refused")
    if behaviour == endpoint.Behaviour.BROKEN:
        raise ValueError(f"{endpoint.name}: the answer is no JSON: '<html>502 Bad Gateway'")
    if behaviour == endpoint.Behaviour.SLOW:
        await asyncio.sleep(SLOW)
        return False
    return True
