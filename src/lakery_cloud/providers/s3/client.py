"""The SDK's client of one storage on one event loop. It is opened by the first request that needs it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client


class SDKClient:
    """A client that may not be open yet. Loading its description of the API takes longer than most first requests.

    Args:
        open_client: Opens the client.
        endpoint: URL of the API, for messages.
        connections: How many connections the client may use.
        credentials: The client's credentials; None without any.

    Attributes:
        endpoint, connections, credentials: As the arguments.
    """

    def __init__(
        self,
        open_client: Callable[[], AbstractAsyncContextManager["S3Client"]],
        *,
        endpoint: str,
        connections: int,
        credentials: Any,
    ) -> None:
        self._open_client = open_client
        self.endpoint = endpoint
        self.connections = connections
        self.credentials = credentials
        self._client: S3Client | None = None
        self._opening: asyncio.Task[tuple[S3Client, AsyncExitStack]] | None = None

    @classmethod
    def opened(cls, client: "S3Client") -> Self:
        """A client that is open already, and that its owner closes."""

        def open_client() -> AbstractAsyncContextManager["S3Client"]:
            raise AssertionError("the client is open")

        made = cls(
            open_client,
            endpoint=client.meta.endpoint_url,
            connections=client.meta.config.max_pool_connections,
            credentials=client._request_signer._credentials,  # a client has no public attribute for them
        )
        made._client = client
        return made

    @property
    def credential_kind(self) -> str | None:
        """The SDK's name of the source of the credentials; None without credentials."""
        return str(getattr(self.credentials, "method", "explicit")) if self.credentials else None

    async def get(self) -> "S3Client":
        """The open client.

        Raises:
            ConfigError, CredentialsError: The configuration is broken.
        """
        if self._client is not None:
            return self._client
        if self._opening is None:
            # A task of its own, since cancelling one waiting caller must not end it for the others.
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        try:
            client, _ = await asyncio.shield(opening)
        finally:
            if opening.done() and (opening.cancelled() or opening.exception()) and self._opening is opening:
                self._opening = None  # the next request tries again
        self._client = client
        return client

    async def aclose(self) -> None:
        """Close the client, if a request has opened it."""
        if self._opening is None:
            return
        await asyncio.wait([self._opening])
        if not self._opening.cancelled() and self._opening.exception() is None:
            _, resources = self._opening.result()
            await resources.aclose()

    async def _open(self) -> "tuple[S3Client, AsyncExitStack]":
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._open_client())
            return client, stack.pop_all()
        raise AssertionError("an exit stack never swallows an error")
