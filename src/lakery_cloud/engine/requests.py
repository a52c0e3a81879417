"""The requests that lakery-cloud signs and sends itself: one attempt, its retries, and what counts as success.

A provider says how a request is signed and what a refusal means. It knows which responses it expects, and how to read them.
"""

import abc
import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Self, TypeVar

from lakery_cloud.engine.error_messages import Failure
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Archived, BodyInterrupted, Full
from lakery_cloud.engine.telemetry.operations import note_retries
from lakery_cloud.errors import CredentialsError, StorageUnavailable
from lakery_cloud.http.exchange import (
    MAX_BUFFERED,
    BufferedResponse,
    ConnectFailed,
    HTTPError,
    InvalidRequest,
    ProxyFailed,
    ReadTimeout,
    Request,
    Response,
    TLSFailed,
    UnsupportedResponse,
    buffer,
)
from lakery_cloud.redaction import redact_error
from lakery_cloud.streams.pace import note_throttle

T = TypeVar("T")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 20.0
"""MinIO asks for 120 seconds at its limit (its source, `writeErrorResponse`), which is too long for one request."""
READ_SIZE = 256 * 1024
"""Bytes to read from a body at a time."""


def backoff(failures: int, *, first: float | None = None) -> float:
    """Seconds to wait before a retry: twice as long after each failure, and randomized to spread clients.

    Args:
        failures: Failed requests in a row, from 1.
        first: Longest pause after the first failure, in seconds; `FIRST_PAUSE` if None.
    """
    note_retries()
    longest = (FIRST_PAUSE if first is None else first) * 2.0 ** (failures - 1)
    return min(longest, LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311, it spreads retries


def requested_pause(headers: Mapping[str, str]) -> float:
    """Seconds that a store asks to wait before a retry, at most `LONGEST_PAUSE`; 0 if it does not say.

    `Retry-After` has seconds or a date (RFC 9110, 10.2.3). The other headers have milliseconds, and are Azure's (see
    `get_retry_after` of azure-core).

    Args:
        headers: The headers of the refusal; names in lower case, or a mapping that ignores case.
    """
    seconds = _seconds(headers.get("retry-after") or "")
    if not seconds:
        milliseconds = next((text for name in _MILLISECONDS if (text := headers.get(name))), "")
        seconds = float(milliseconds) / 1000 if _is_number(milliseconds) else 0.0
    return min(max(seconds, 0.0), LONGEST_PAUSE)


_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms")


def _seconds(text: str) -> float:
    """The value of `Retry-After` in seconds; 0 if it is malformed."""
    if _is_number(text):
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


THROTTLES = (429, 503)
"""The statuses with which stores refuse requests because of too many."""


class RefusedRequest(Exception):
    """A store's refusal of a request, as the cause of our error. It has no body: Azure's may repeat a signature.

    Args:
        response: The refusal.

    Attributes:
        status: Its status.
        pause: Seconds that the store asks to wait before a retry.
    """

    def __init__(self, response: BufferedResponse) -> None:
        super().__init__(f"HTTP {response.status}")
        self.status = response.status
        self.pause = requested_pause(response.headers)


class Requests(abc.ABC):
    """Sends the requests of one client with retries.

    Args:
        endpoint: The API's URL, for messages.
        max_attempts: Attempts for one request.
    """

    def __init__(self, *, endpoint: str, max_attempts: int) -> None:
        self.endpoint = endpoint
        self.max_attempts = max_attempts

    @abc.abstractmethod
    async def _exchange(self, address: Address, request: Request) -> Response:
        """Sign a request and send it once.

        Raises:
            HTTPError: No response arrived.
            CredentialsError: There are no credentials to sign with.
        """

    @abc.abstractmethod
    def _refused(self, response: BufferedResponse, operation: str, address: Address) -> Exception:
        """The engine's error for a response that is no success."""

    def _judge(self, response: BufferedResponse) -> BufferedResponse:
        """The response with the status that its body proves: some stores send the status before they know it."""
        return response

    async def _renew_credentials(self) -> bool:
        """Discard credentials that the store refused; return whether there may be others."""
        return False

    async def send(
        self,
        operation: str,
        address: Address,
        request: Request,
        read: Callable[[BufferedResponse], T],
        *,
        expected: Collection[int],
        attempts: int | None = None,
        max_size: int = MAX_BUFFERED,
    ) -> T:
        """Send a request until a response succeeds, and read that.

        Args:
            operation: The API's name of the request, for messages.
            address: The object that it is about.
            request: The request, without its signature.
            read: Reads the response. It raises `UnsupportedResponse` for one that does not prove success.
            expected: Status codes of success.
            attempts: Attempts for this request, if not `max_attempts`.
            max_size: Bytes of the response's body.

        Raises:
            Signal, LakeryCloudError: The store refused the request, or could not be reached.
        """
        return await self._send(operation, address, request, read, expected, attempts, max_size)

    async def open_body(
        self,
        operation: str,
        address: Address,
        request: Request,
        read: Callable[[Response], T],
        *,
        expected: Collection[int],
    ) -> T:
        """As `send`, for a response whose body is left to the caller, who closes the response."""
        return await self._send(operation, address, request, read, expected, None, None)

    async def _send(
        self,
        operation: str,
        address: Address,
        request: Request,
        read: Callable[[Any], T],
        expected: Collection[int],
        attempts: int | None,
        max_size: int | None,
    ) -> T:
        """Send a request as `send` does; without `max_size`, as `open_body` does."""
        attempts, attempt, has_renewed = attempts or self.max_attempts, 1, False
        while True:
            cause: Exception | None = None
            try:
                response = await self._exchange(address, request)
                is_expected = response.status in expected
                if max_size is None and is_expected:
                    try:
                        return read(response)
                    except BaseException:
                        response.close()
                        raise
                limit = max_size if max_size is not None and is_expected else MAX_BUFFERED
                buffered = self._judge(await buffer(response, limit))
                if buffered.status in expected:
                    return read(buffered)
                cause, failure = RefusedRequest(buffered), self._refused(buffered, operation, address)
                if buffered.status in THROTTLES:
                    note_throttle()
            except HTTPError as error:
                cause, failure = error, self._failed(error, operation, address)
            except InvalidRequest as error:
                failure = self.failure(operation, address, str(error)).misconfigured("Check the storage's settings")
            if isinstance(failure, CredentialsError) and not has_renewed:
                has_renewed = True
                if await self._renew_credentials():
                    continue
            if attempt >= attempts or not _may_pass(failure, cause):
                raise failure from cause
            if not request.is_repeatable and may_be_running(cause):
                raise failure from cause
            await asyncio.sleep(pause_after(cause, attempt))
            attempt += 1

    def _failed(self, error: HTTPError, operation: str, address: Address) -> Exception:
        """The engine's error for a request without a usable response."""
        failure = self.failure(operation, address, redact_error(error))
        if isinstance(error, ProxyFailed):
            return failure.no_proxy()
        if isinstance(error, TLSFailed):
            return failure.no_tls()
        if isinstance(error, ConnectFailed):
            return failure.unreachable()
        if isinstance(error, UnsupportedResponse):
            return failure.unusable()
        return failure.no_answer()

    def failure(self, operation: str, address: Address, said: str) -> Failure:
        """A failed request, for its error."""
        return Failure(operation, address, self.endpoint, said)


def pause_after(cause: BaseException | None, failures: int) -> float:
    """Seconds to wait before a retry: as `backoff` says, or longer if the store asks for it.

    Args:
        cause: The reason of the last failure.
        failures: Failed requests in a row, from 1.
    """
    return max(backoff(failures), cause.pause if isinstance(cause, RefusedRequest) else 0.0)


def _may_pass(failure: Exception, cause: Exception | None) -> bool:
    """Whether a retry may succeed."""
    if isinstance(cause, RefusedRequest) and cause.status < 400:  # a redirect, or a success of the wrong kind
        return False
    return isinstance(failure, StorageUnavailable) and not isinstance(failure, Archived | Full)


def may_be_running(cause: BaseException | None) -> bool:
    """Whether the store may still work on a request, since no response came in time, to us or to a proxy.

    Args:
        cause: The cause of our error.
    """
    return isinstance(cause, ReadTimeout) or (
        isinstance(cause, RefusedRequest) and cause.status == HTTPStatus.GATEWAY_TIMEOUT
    )


class BodyChunks:
    """The bytes of a response as they arrive. An iterator, since a generator costs as much as a small read.

    Args:
        read: Reads the next bytes; none at the end.
        interruptions: Errors of a broken or stalled connection; they become `BodyInterrupted`.
    """

    __slots__ = ("_interruptions", "_read")

    def __init__(
        self, read: Callable[[], Awaitable[bytes]], *, interruptions: tuple[type[Exception], ...] = (HTTPError,)
    ) -> None:
        self._read = read
        self._interruptions = interruptions

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._read()
        except self._interruptions as error:
            raise BodyInterrupted(redact_error(error)) from error
        if not chunk:
            raise StopAsyncIteration
        return chunk
