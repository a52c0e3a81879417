"""The SDK's client: its settings, HTTP transport and retries."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry

from lakery_cloud.engine.requests import backoff, requested_pause
from lakery_cloud.http.exchange import Origin
from lakery_cloud.http.proxies import proxy_for
from lakery_cloud.http.session import timeout_behind_proxy
from lakery_cloud.providers.azure.answers import Throttled, check_sdk_answer
from lakery_cloud.providers.azure.sdk_requests import MAX_READ
from lakery_cloud.providers.azure.settings import AZURE_LIMITS
from lakery_cloud.redaction import secrets_in

if TYPE_CHECKING:
    from lakery_cloud.providers.azure.settings import AzureSettings


def client_config(settings: "AzureSettings", session: aiohttp.ClientSession) -> dict[str, Any]:
    """The arguments of a client with our settings."""
    retries = settings.max_attempts - 1
    return {
        "retry_policy": _Retries(retry_total=retries, retry_connect=retries, retry_read=retries, retry_status=retries),
        "transport": sdk_transport(settings, session),
        "raw_response_hook": check_sdk_answer,
        "permit_redirects": False,  # Azure sends none, and the target of another server is not ours
        # Content that fits into one put is one put: blocks at a content key would outlive a cancellation.
        "max_single_put_size": AZURE_LIMITS.max_put_size,
        "max_single_get_size": MAX_READ,
        "max_chunk_get_size": MAX_READ,
    }


def sdk_transport(settings: "AzureSettings", session: aiohttp.ClientSession) -> "SDKTransport":
    """The SDK's HTTP transport over a session that stays open."""
    return SDKTransport(
        session=_TimedSession(session),
        session_owner=False,
        connection_timeout=settings.connect_timeout,
        read_timeout=settings.read_timeout,
    )


def secrets_of(client: BlobServiceClient) -> Iterator[str]:
    """The key or the signature of a client."""
    for value in (client.url, *(getattr(client.credential, name, None) for name in ("account_key", "signature"))):
        yield from secrets_in(value)


class SDKTransport(AioHttpTransport):  # type: ignore[misc]  # azure.core has no types here
    """The SDK's HTTP transport, with the proxies of all other requests."""

    async def send(self, request: Any, **config: Any) -> Any:
        proxy = proxy_for(Origin.of(request.url))
        return await super().send(request, **config, proxy=proxy.url if proxy else None)


class _TimedSession:
    """A session for the SDK's transport, which gives no time-out for a proxy, and decodes bodies without a limit.

    Attributes:
        auto_decompress: Tells the SDK that bodies are decoded: `CheckedResponse` does it, except for content.
    """

    auto_decompress = True

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def __aenter__(self) -> Self:
        return self

    async def request(self, *args: Any, **options: Any) -> aiohttp.ClientResponse:
        if options.get("proxy"):
            options["timeout"] = timeout_behind_proxy(options["timeout"])
        return await self._session.request(*args, **options)


class ClosedClient:
    """Stand-in for a closed client."""

    async def close(self) -> None:
        pass


class _Retries(ExponentialRetry):
    """Short, random pauses at first, or those that Azure asks for; the SDK's own begin at 15 seconds."""

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        last = settings["history"][-1]
        refusal = last.error if isinstance(last.error, Throttled) else last.http_response
        return max(backoff(settings["count"] + 1), requested_pause(refusal.headers) if refusal is not None else 0.0)
