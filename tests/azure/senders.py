"""The two senders of a request, lakery-cloud and the SDK: what they send is compared."""

import re
from typing import Any
from urllib.parse import parse_qsl

import pytest

from lakery_cloud.testing import Exchange

both_senders = pytest.mark.parametrize("fast_lane", [True, False], ids=["hot requests", "SDK"])
NOT_COMPARED = {"x-ms-date", "x-ms-client-request-id", "x-ms-return-client-request-id"}


def shown(exchange: Exchange) -> tuple[Any, ...]:
    """What the store reads of a request, without what differs from one request to the next."""
    path, _, query = exchange.target.partition("?")
    headers = {
        name: re.sub(r"\b(se|st|sig)=[^&]*", r"\1=", value)
        for name, value in exchange.headers.items()
        if (name.startswith(("x-ms-", "if-")) or name in ("content-length", "content-type"))
        and name not in NOT_COMPARED
    }
    return exchange.method, path, sorted(parse_qsl(query)), headers
