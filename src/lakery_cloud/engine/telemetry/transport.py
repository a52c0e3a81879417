"""A transport that reports each request of one operation and passes it on: the only place that sees all of them."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self, TypeVar, cast

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, KeptVersion, ObjectInfo, Receipt, Upload
from lakery_cloud.engine.sessions import Session
from lakery_cloud.engine.telemetry.operations import Operation, Request, current_operation
from lakery_cloud.engine.transport import Transport
from lakery_cloud.streams.parts import Part

T = TypeVar("T")

REQUESTS = frozenset(name for name, method in vars(Transport).items() if inspect.iscoroutinefunction(method))
"""The methods of a transport that are awaited."""


def observed(storage: object, session: Session) -> Session:
    """The session for an operation; its requests are reported if the operation is."""
    operation = current_operation(storage)
    if operation is None:
        return session
    return session.with_transport(cast("Transport", _ObservedTransport(session.transport, operation)))


class _ObservedTransport:
    def __init__(self, transport: Transport, operation: Operation) -> None:
        self._transport = transport
        self._operation = operation

    def __getattr__(self, name: str) -> Any:
        if name not in REQUESTS:
            return getattr(self._transport, name)

        async def observed(*args: Any, **options: Any) -> Any:
            return await self._observe(getattr(Transport, name), *args, **options)

        return observed

    async def _observe(
        self, method: Callable[..., Awaitable[T]], target: Any, /, *args: Any, sent: int = 0, **options: Any
    ) -> T:
        """Call a method of the transport, and report it as a request that sends so many bytes if it succeeds."""
        with self._operation.request(method.__name__, _bucket_of(target)) as request, request.current():
            answer: T = await getattr(self._transport, method.__name__)(target, *args, **options)
            request.sent = sent
            return answer

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        await self._observe(Transport.put, address, data, attributes, sent=len(data))
        self._operation.has_created = True

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        return await self._observe(Transport.upload_part, upload, part, sent=part.size)

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], **options: Any
    ) -> ObjectInfo | str | None:
        made = await self._observe(Transport.complete_upload, upload, receipts, **options)
        self._operation.has_created |= not upload.is_temporary
        return made

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        made = await self._observe(Transport.copy, source, address, attributes)
        self._operation.has_created = True
        return made

    async def head(self, address: Address) -> ObjectInfo | None:
        found = await self._observe(Transport.head, address)
        if found is not None:
            self._operation.found = found.size
        return found

    @asynccontextmanager
    async def get(self, address: Address, **options: Any) -> AsyncGenerator[Body]:
        with self._operation.request(Transport.get.__name__, address.bucket) as request:
            async with AsyncExitStack() as opened:
                # Only while it is opened: a body is read in the context of its consumer.
                with request.current():
                    body = await opened.enter_async_context(self._transport.get(address, **options))
                yield body._replace(chunks=_Counted(body.chunks, request))

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        with self._operation.request(Transport.list.__name__, bucket):
            async for info in self._transport.list(bucket, root):
                yield info

    async def list_described(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        with self._operation.request(Transport.list.__name__, bucket):
            async for info in self._transport.list_described(bucket, root):
                yield info

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        with self._operation.request(Transport.list_uploads.__name__, bucket):
            async for upload in self._transport.list_uploads(bucket, root):
                yield upload

    async def list_versions(self, bucket: str, root: str) -> AsyncIterator[KeptVersion]:
        with self._operation.request(Transport.list_versions.__name__, bucket):
            async for version in self._transport.list_versions(bucket, root):
                yield version


class _Counted:
    """The chunks of a body, counted."""

    def __init__(self, chunks: AsyncIterator[bytes], request: Request) -> None:
        self._chunks = chunks
        self._request = request

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._request.received += len(chunk)
        return chunk


def _bucket_of(target: Any) -> str:
    """The bucket of a request's target: an address, an upload, an object, a storage's keys, or the bucket itself."""
    address = getattr(target, "address", target)
    return address if isinstance(address, str) else str(address.bucket)
