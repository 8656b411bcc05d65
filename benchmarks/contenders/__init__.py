"""Who is measured: the engine, the raw SQL below it, and its peers, all through one interface."""

from __future__ import annotations

from benchmarks.contenders.engine import DurableEngine, Engine
from benchmarks.contenders.events import ByHand, Delivery
from benchmarks.contenders.interface import Contender
from benchmarks.contenders.peer import PeerContender
from benchmarks.contenders.raw import RawSQL

__all__ = [
    "ByHand",
    "Contender",
    "Delivery",
    "DurableEngine",
    "Engine",
    "PeerContender",
    "RawSQL",
]
