"""Models to try, to show and to test with."""

from __future__ import annotations

from testapp.models.basic import BasicModel, BasicStates
from testapp.models.chain import Chain, ChainStates, Noop, NoopStates
from testapp.models.deliveries import Delivery, DeliveryStates, Endpoint, Receipt
from testapp.models.errands import Errand, ErrandStates
from testapp.models.expiry import Attachment, Expiring, ExpiringStates, Lock
from testapp.models.files import File, FileStates
from testapp.models.keys import Hidden, RelatedKey, TextKey, UUIDKey
from testapp.models.kinds import (
    BigKind,
    ChildKind,
    CompositeKind,
    Document,
    GrandchildKind,
    InvoiceKind,
    KindStates,
    Label,
    LabelledKind,
    Leaf,
    ManagedKind,
    ParentKind,
    ProxyKind,
    RelatedKind,
    Reminder,
    RoutedKind,
    TextKind,
    UUIDKind,
)
from testapp.models.letters import Letter, LetterStates
from testapp.models.orders import Order, OrderStates
from testapp.models.trouble import CheckLog, Trouble, TroubleStates

__all__ = [
    "Attachment",
    "BasicModel",
    "BasicStates",
    "BigKind",
    "Chain",
    "ChainStates",
    "CheckLog",
    "ChildKind",
    "CompositeKind",
    "Delivery",
    "DeliveryStates",
    "Document",
    "Endpoint",
    "Errand",
    "ErrandStates",
    "Expiring",
    "ExpiringStates",
    "File",
    "FileStates",
    "GrandchildKind",
    "Hidden",
    "InvoiceKind",
    "KindStates",
    "Label",
    "LabelledKind",
    "Leaf",
    "Letter",
    "LetterStates",
    "Lock",
    "ManagedKind",
    "Noop",
    "NoopStates",
    "Order",
    "OrderStates",
    "ParentKind",
    "ProxyKind",
    "Receipt",
    "RelatedKey",
    "RelatedKind",
    "Reminder",
    "RoutedKind",
    "TextKey",
    "TextKind",
    "Trouble",
    "TroubleStates",
    "UUIDKey",
    "UUIDKind",
]
