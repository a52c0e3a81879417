"""`CloudTransport`: the parts of a transport that are the same on every cloud. It knows no SDK."""

import abc
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Protocol, Self, TypeVar

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, BodyTooSlow, KeyMissing, ObjectInfo, Receipt, Upload
from lakery_cloud.engine.settings import CloudSettings
from lakery_cloud.engine.transport import Transport
from lakery_cloud.errors import LakeryCloudError
from lakery_cloud.streams.parts import Part

T = TypeVar("T")

SDK_COPIES = 3
"""The chunks of a part, the body that the SDK signs, and what aiohttp passes to a socket that is full."""

OpenBody = tuple[Body, Callable[[], None]]
"""A body, and the function that closes it."""


class HotRequests(Protocol):
    """The requests of which there are many: signed and sent by lakery-cloud, or by the SDK. Both return the same shapes."""

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        """As `Transport.put`."""

    async def head(self, address: Address) -> ObjectInfo:
        """As `Transport.head`, but a missing object raises `KeyMissing`."""

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        """As `Transport.get`; the caller closes the body."""

    async def part(self, upload: Upload, part: Part) -> Receipt:
        """As `Transport.upload_part`."""


class CloudTransport(Transport):
    """A transport whose hot requests may have two implementations, and whose other requests may be calls of an SDK.

    Args:
        settings: The storage's settings.
        connections: How many connections the requests may use, if they are limited.
    """

    sdk_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors of the SDK, which `_translate` turns into the engine's."""
    largest_piece: int = 0
    """Bytes of content that an SDK collects before it passes them on."""

    def __init__(self, settings: CloudSettings, *, connections: int | None = None) -> None:
        super().__init__(**settings.share(settings.connections if connections is None else connections))
        if not settings.fast_lane:
            self.copies_of_part = SDK_COPIES
        self._min_rate, self._window = settings.min_rate, settings.read_timeout

    def _translate(self, error: Exception, operation: str, address: Address) -> Exception:
        """The engine's error for an error of the SDK."""
        return error

    @abc.abstractmethod
    async def _hot(self, bucket: str, send: Callable[[HotRequests], Awaitable[T]]) -> T:
        """Send a hot request by the implementation that serves the bucket."""

    async def _call(
        self,
        operation: str,
        address: Address,
        function: Callable[..., Awaitable[T]],
        /,
        *args: object,
        **options: object,
    ) -> T:
        """Call the SDK, within the limit of concurrent requests.

        Args:
            operation: The API's name of the request, for messages.
            address: The object that it is about.
            function: The SDK's function.
            args: Its arguments.
            options: Its keyword arguments.

        Raises:
            Signal, LakeryCloudError: The call failed.
        """
        async with self.requests:
            try:
                return await function(*args, **options)
            except LakeryCloudError:  # some are errors of the SDK's kinds too, such as ValueError
                raise
            except self.sdk_errors as error:
                raise self._translate(error, operation, address) from error

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        async with self.requests:
            await self._hot(address.bucket, lambda hot: hot.put(address, data, attributes))

    async def head(self, address: Address) -> ObjectInfo | None:
        async with self.requests:
            try:
                return await self._hot(address.bucket, lambda hot: hot.head(address))
            except KeyMissing:
                return None

    def get(
        self, address: Address, *, start: int = 0, stop: int | None = None, version: str | None = None
    ) -> AbstractAsyncContextManager[Body]:
        return _Opening(self, address, start, stop, version)

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        """As `get`; the caller takes one of `self.reads` and closes the body."""
        body, close = await self._hot(address.bucket, lambda hot: hot.open(address, start, stop, version))
        if self._min_rate:
            paced = PacedChunks(body.chunks, rate=self._min_rate, window=self._window, largest_piece=self.largest_piece)
            body = body._replace(chunks=paced)
        return body, close

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        async with self.requests:
            return await self._hot(upload.address.bucket, lambda hot: hot.part(upload, part))


class _Opening:
    """The context manager of an open body. No generator, since that costs as much as the rest of a small read."""

    __slots__ = ("_close", "_transport", "_wanted")

    def __init__(self, transport: CloudTransport, *wanted: Any) -> None:
        self._transport, self._wanted = transport, wanted

    async def __aenter__(self) -> Body:
        await self._transport.reads.acquire()
        try:
            body, self._close = await self._transport.open(*self._wanted)
        except BaseException:
            self._transport.reads.release()
            raise
        return body

    async def __aexit__(self, *_: object) -> None:
        try:
            self._close()  # an open body keeps its connection
        finally:
            self._transport.reads.release()


class PacedChunks:
    """Content that must arrive at a rate. The time that its consumer takes does not count.

    Args:
        chunks: The content.
        rate: Bytes a second.
        window: Seconds over which the rate is measured.
        largest_piece: Bytes of the largest chunk.
    """

    def __init__(self, chunks: AsyncIterator[bytes], *, rate: int, window: float, largest_piece: int) -> None:
        self._chunks = chunks
        self._rate = rate
        self._window = window
        self._longest = largest_piece / rate
        self._waited, self._arrived = 0.0, 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._window - self._waited + self._longest):
                chunk = await anext(self._chunks)
        except TimeoutError as error:
            raise self._too_slow() from error
        self._waited += loop.time() - began
        self._arrived += len(chunk)
        if self._waited >= self._window:
            if self._arrived < self._rate * self._waited:
                raise self._too_slow()
            self._waited, self._arrived = 0.0, 0
        return chunk

    def _too_slow(self) -> BodyTooSlow:
        return BodyTooSlow(f"fewer than {self._rate} bytes a second arrived")
