"""Models to try, to show and to test with."""

from __future__ import annotations

from testapp.models.basic import BasicModel, BasicStates
from testapp.models.chain import Chain, ChainStates, Noop, NoopStates
from testapp.models.errands import Errand, ErrandStates
from testapp.models.expiry import Attachment, Expiring, ExpiringStates, Lock
from testapp.models.files import File, FileStates
from testapp.models.keys import CompositeKey, Hidden, RelatedKey, TextKey, UUIDKey
from testapp.models.letters import Letter, LetterStates
from testapp.models.orders import Order, OrderStates
from testapp.models.trouble import CheckLog, Trouble, TroubleStates

__all__ = [
    "Attachment",
    "BasicModel",
    "BasicStates",
    "Chain",
    "ChainStates",
    "CheckLog",
    "CompositeKey",
    "Errand",
    "ErrandStates",
    "Expiring",
    "ExpiringStates",
    "File",
    "FileStates",
    "Hidden",
    "Letter",
    "LetterStates",
    "Lock",
    "Noop",
    "NoopStates",
    "Order",
    "OrderStates",
    "RelatedKey",
    "TextKey",
    "Trouble",
    "TroubleStates",
    "UUIDKey",
]
