"""The one seam where requests are told of: a transport that passes everything on, for the length of one operation."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body
from lakery_cloud.engine.sessions import Session
from lakery_cloud.engine.telemetry.operations import Operation, Request, current_operation
from lakery_cloud.engine.transport import Transport


def observed(storage: object, session: Session) -> Session:
    """The session, for the operation that takes it: its requests are told of, if that operation is."""
    operation = current_operation(storage)
    if operation is None:
        return session
    return session.with_transport(cast("Transport", _ObservedTransport(session.transport, operation)))


REQUESTS = frozenset(
    {
        "put",
        "head",
        "has_bucket",
        "delete",
        "delete_all",
        "tags",
        "begin_upload",
        "upload_part",
        "copy_part",
        "complete_upload",
        "abort_upload",
        "copy",
        "apply_lifecycle",
        "server_time",
        "put_damaged",
        "free_space",
        "presign",
    }
)
"""The methods of a transport that are awaited."""


class _ObservedTransport:
    def __init__(self, transport: Transport, operation: Operation) -> None:
        self._transport = transport
        self._operation = operation

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._transport, name)
        return self._observed(name, found) if name in REQUESTS else found

    @asynccontextmanager
    async def get(self, address: Address, **options: Any) -> AsyncGenerator[Body]:
        with self._operation.request("get", address.bucket) as request:
            async with AsyncExitStack() as opened:
                # Only while it is opened: a body is read in the context of whoever wants it.
                with request.current():
                    body = await opened.enter_async_context(self._transport.get(address, **options))
                yield replace(body, chunks=_Counted(body.chunks, request))

    async def list(self, bucket: str, root: str) -> AsyncIterator[Any]:
        with self._operation.request("list", bucket):
            async for info in self._transport.list(bucket, root):
                yield info

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Any]:
        with self._operation.request("list_uploads", bucket):
            async for upload in self._transport.list_uploads(bucket, root):
                yield upload

    def _observed(self, name: str, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def observed(*args: Any, **options: Any) -> Any:
            with self._operation.request(name, _bucket_of(args[0])) as request, request.current():
                answer = await method(*args, **options)
                self._note(name, args, answer, request)
                return answer

        return observed

    def _note(self, name: str, args: tuple[Any, ...], answer: Any, request: Request) -> None:
        """What a request that succeeded means for its operation."""
        if name == "put":
            request.sent = len(args[1])
            self._operation.has_created = True
        elif name == "upload_part":
            request.sent = args[1].size
        elif name == "copy" or (name == "complete_upload" and not args[0].is_temporary):
            self._operation.has_created = True
        elif name == "head" and answer is not None:
            self._operation.found = answer.size


class _Counted:
    """The chunks of a body, counted."""

    def __init__(self, chunks: AsyncIterator[bytes], request: Request) -> None:
        self._chunks = chunks
        self._request = request

    def __aiter__(self) -> "_Counted":
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self._chunks)
        self._request.received += len(chunk)
        return chunk


def _bucket_of(target: Any) -> str:
    """The bucket of what a request is about: an address, an upload, an object, a storage's keys, or the bucket itself."""
    address = getattr(target, "address", target)
    return address if isinstance(address, str) else str(address.bucket)
