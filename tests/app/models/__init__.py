"""The models that the tests run, in every shape that a life can have."""

from __future__ import annotations

from tests.app.models.accounts import Account, Entry, Loose
from tests.app.models.basic import BasicModel, BasicStates
from tests.app.models.chain import Chain, ChainStates, Noop, NoopStates
from tests.app.models.deliveries import Delivery, DeliveryStates, Endpoint, Receipt
from tests.app.models.errands import Errand, ErrandStates
from tests.app.models.expiry import Attachment, Expiring, ExpiringStates, Lock
from tests.app.models.keys import Hidden, RelatedKey, TextKey, UUIDKey
from tests.app.models.kinds import (
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
from tests.app.models.letters import Letter, LetterStates
from tests.app.models.parcels import Parcel, ParcelStates
from tests.app.models.purchases import Purchase, PurchaseStates
from tests.app.models.stays import Stay, StayStates
from tests.app.models.traced import Traced, TracedStates
from tests.app.models.trouble import CheckLog, Trouble, TroubleStates

__all__ = [
    "Account",
    "Entry",
    "Loose",
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
    "Parcel",
    "ParcelStates",
    "ParentKind",
    "ProxyKind",
    "Purchase",
    "PurchaseStates",
    "Receipt",
    "RelatedKey",
    "RelatedKind",
    "Reminder",
    "RoutedKind",
    "Stay",
    "StayStates",
    "TextKey",
    "TextKind",
    "Traced",
    "TracedStates",
    "Trouble",
    "TroubleStates",
    "UUIDKey",
    "UUIDKind",
]
