"""Who is measured: the engine, the raw SQL below it, and its peers, all through one interface."""

from __future__ import annotations

from tests.benchmarks.contenders.engine import Engine
from tests.benchmarks.contenders.interface import Contender
from tests.benchmarks.contenders.peer import PeerContender
from tests.benchmarks.contenders.raw import RawSQL

__all__ = ["Contender", "Engine", "PeerContender", "RawSQL"]
