"""A store that repeats credentials in the response of any one operation makes nothing show them.

Each scenario runs once without a fault, and then once for each of its operations, whose responses repeat the request:
as XML, as JSON, in headers and in the reason of the status, in the body of a success too.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import google.oauth2.credentials
import pytest

from lakery_cloud import LakeryCloudError, MemoryStorage, StorageRegistry
from lakery_cloud.maintenance import apply_lifecycle, copy, verify
from lakery_cloud.testing.faults import Answer, Exchange
from lakery_cloud.testing.faults.flows import RequestBody
from lakery_cloud.testing.faults.forwarding import NO_FAULT, ForwardingProxy
from lakery_cloud.testing.faults.rules import Armed, FaultMatch
from tests.helpers import write
from tests.rigs.base import CloudRig
from tests.security.credentials import Marker, everything
from tests.security.echoes import Logs, in_json, in_xml
from tests.security.test_secrets import logged
from tests.stores import test_mutated_answers as mutated
from tests.stores.test_mutated_answers import SMALL, Try
from tests.telemetry import Exported

cloud_rig, small_parts = mutated.cloud_rig, mutated.small_parts
SECRET_HEADERS = ("authorization", "x-amz-security-token", "proxy-authorization")
SECRET_QUERIES = re.compile("x-amz-(signature|security-token)|sig|upload_id", re.IGNORECASE)


def secrets_of(exchange: Exchange) -> set[str]:
    """Return what is secret in a request: tokens, signatures, and the names of upload sessions."""
    values = [exchange.headers.get(name, "") for name in SECRET_HEADERS]
    found = {re.split(r"[ =:]", value)[-1] or value.rpartition(" ")[2] for value in values}
    found |= {value.partition(":")[2] for value in values if value.startswith("SharedKey")}
    found |= {value for name, value in parse_qsl(urlsplit(exchange.target).query) if SECRET_QUERIES.fullmatch(name)}
    return {value for value in found if len(value) > 5}


@dataclass
class SecretTry(Try):
    """A scenario whose storages have more secrets."""

    options: dict[str, Any] = field(default_factory=dict)

    def storage(self, **options: Any) -> Any:
        return super().storage(**{**self.options, **options})


class EchoingProxy(ForwardingProxy):
    """A proxy that answers one kind of operation with what it was asked.

    Attributes:
        secrets: The secrets of all requests.
        echoed: Operations that it answered itself.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.secrets: set[str] = set()
        self.echoed: list[str] = []
        self._echo: tuple[str, int] | None = None

    def echo(self, operation: str, status: int) -> None:
        """Answer an operation itself from now on."""
        self._echo = (operation, status)
        self.exchanges.clear()
        self.echoed.clear()

    async def match_fault(self, exchange: Exchange, body: RequestBody) -> FaultMatch:
        await body.buffer()
        self.exchanges.append(exchange)
        self.secrets |= secrets_of(exchange)
        if self._echo is None or exchange.operation != self._echo[0]:
            return NO_FAULT
        operation, status = self._echo
        self.echoed.append(operation)
        request = "\n".join(
            [f"{exchange.method} {exchange.target}", *(f"{name}: {value}" for name, value in exchange.headers.items())]
        )
        is_json = "/storage/v1" in exchange.target
        headers = {f"x-seen-{number}": line for number, line in enumerate(request.split("\n"))}
        headers["Content-Type"] = "application/json" if is_json else "application/xml"
        answer = Answer(status, headers=headers, body=(in_json if is_json else in_xml)(request))
        return FaultMatch(Armed(answer, None))


async def copying(tried: Try) -> list[Any]:
    """Copy to the store and from it; return the results."""
    memory = MemoryStorage()
    await write(memory, SMALL)
    async with tried.storage() as storage, StorageRegistry([memory]) as registry:
        results = [copied async for copied in copy(registry, storage)]
    await tried.put()
    async with StorageRegistry([tried.storage()]) as registry:
        return [*results, *[copied async for copied in copy(registry, MemoryStorage())]]


async def verification(tried: Try) -> list[Any]:
    await tried.put()
    async with tried.storage() as storage:
        return [found async for found in verify(storage)]


async def lifecycle(tried: Try) -> None:
    async with tried.storage() as storage:
        await apply_lifecycle(storage)


MUTATED = ("blob", "stream", "stream_copied_in_parts", "reads", "descriptions", "deletion", "sweeping")
SCENARIOS: Mapping[str, Callable[[Try], Awaitable[Any]]] = {
    **{name: mutated.SCENARIOS[name] for name in MUTATED},
    **{run.__name__: run for run in (copying, verification, lifecycle)},
}
"""Scenarios with all operations; those whose results have errors return them."""
STATUSES = (403, 500, 200, 400)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with logged() as log:
        yield log


@pytest.fixture
async def proxy(cloud_rig: CloudRig, short_pauses: None, small_parts: None) -> AsyncIterator[EchoingProxy]:
    async with EchoingProxy(cloud_rig.server_url) as made:
        cloud_rig.point_to(made.url)
        yield made


@pytest.fixture
def options(cloud_rig: CloudRig, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """More secrets than the rig has, of kinds that its server ignores."""
    marker = Marker()
    if cloud_rig.storage_class.url_scheme == "s3":
        monkeypatch.setenv("AWS_SESSION_TOKEN", marker.plain)
    if cloud_rig.storage_class.url_scheme == "gs":
        return {"token": google.oauth2.credentials.Credentials(marker.plain)}
    return {}


async def attempt(name: str, tried: Try) -> list[str]:
    """Run a scenario; return all that its errors and results show."""
    try:
        results = await SCENARIOS[name](tried)
    except LakeryCloudError as error:
        return [*everything(error)]
    errors = [result.error for result in results or () if getattr(result, "error", None) is not None]
    return [repr(results), *(text for error in errors for text in everything(error))]


@pytest.mark.parametrize("name", SCENARIOS)
async def test_operation_that_repeats_its_request_makes_nothing_show_credentials(
    cloud_rig: CloudRig,
    proxy: EchoingProxy,
    options: dict[str, Any],
    name: str,
    logs: Logs,
    exported: Exported,
) -> None:
    if name in mutated.LACKING.get(cloud_rig.storage_class.url_scheme, ()):
        pytest.skip("the store or its server has no such request")
    await attempt(name, SecretTry(cloud_rig, "unchanged", options=options))
    operations = sorted({exchange.operation for exchange in proxy.exchanges})
    assert operations
    texts: list[str] = []
    for number, operation in enumerate(operations, start=[*SCENARIOS].index(name)):
        proxy.echo(operation, STATUSES[number % 4])
        texts += await attempt(name, SecretTry(cloud_rig, f"try-{number}", fast_lane=bool(number % 3), options=options))
        await proxy.wait_until_idle()
        assert proxy.echoed, operation
    shown = "\n".join([*texts, *logs.lines, exported.text()])
    assert proxy.secrets
    for secret in proxy.secrets:
        assert secret not in shown, f"{secret} in {[text for text in texts if secret in text][:1]}"
