"""A proxy that injects faults between a storage and its server."""

from lakery_cloud.testing.faults.exchange import Exchange
from lakery_cloud.testing.faults.proxy import FaultProxy
from lakery_cloud.testing.faults.rules import (
    FAULTS,
    Answer,
    Armed,
    ArmedRule,
    CutAnswer,
    Delay,
    ExpiredCredentials,
    Fault,
    FaultNotFired,
    FlipAnswerByte,
    FlipRequestByte,
    ResetAfter,
    ResetBefore,
    ResetDuring,
    Rule,
    Stall,
    StallRequest,
    SwallowAnswer,
    Throttle,
)

__all__ = [
    "FAULTS",
    "Answer",
    "Armed",
    "ArmedRule",
    "CutAnswer",
    "Delay",
    "Exchange",
    "ExpiredCredentials",
    "Fault",
    "FaultNotFired",
    "FaultProxy",
    "FlipAnswerByte",
    "FlipRequestByte",
    "ResetAfter",
    "ResetBefore",
    "ResetDuring",
    "Rule",
    "Stall",
    "StallRequest",
    "SwallowAnswer",
    "Throttle",
]
