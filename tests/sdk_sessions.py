"""Quick sessions of botocore and aiobotocore, of which almost every test of S3 makes some.

A session takes most of its time to register the SDK's own handlers, always the same. The first one does; the others get a copy.
"""

import copy
from typing import Any

from botocore import handlers
from botocore.session import Session

_register = Session._register_builtin_handlers
_registered: dict[tuple[type[Any], int], Any] = {}
"""Kind of an emitter, number of handlers (moto adds one when it is imported) -> an emitter that has them."""


def share_handlers() -> None:
    """Let all sessions from now on share the registration of handlers."""
    Session._register_builtin_handlers = _register_or_copy


def _register_or_copy(session: Session, events: Any) -> None:
    kind = type(events._emitter), len(handlers.BUILTIN_HANDLERS)
    if kind in _registered:
        events._emitter = copy.copy(_registered[kind])
    else:
        _register(session, events)
        _registered[kind] = copy.copy(events._emitter)
