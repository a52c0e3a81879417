"""Copies inside S3: by one request, or part by part."""

import re
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors

from lakery_cloud.engine.attributes import METADATA_ALGORITHM, ObjectAttributes
from lakery_cloud.engine.features import Features
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import KeyExists, ObjectInfo, Receipt, Uncertain, Upload, without_none
from lakery_cloud.engine.requests import may_be_running
from lakery_cloud.engine.transport import Transport, copy_once
from lakery_cloud.http.headers import strong
from lakery_cloud.providers.s3.answers import copied, copied_part
from lakery_cloud.providers.s3.checksums import Supported
from lakery_cloud.providers.s3.errors import CopyTimedOut
from lakery_cloud.providers.s3.requests import CONDITIONS, COPY_CHECKSUM
from lakery_cloud.providers.s3.sdk_requests import patience, sdk_described, sdk_stored_as
from lakery_cloud.providers.s3.settings import S3Settings

_AMAZON = re.compile(r"s3[a-z0-9.-]*\.(amazonaws\.com(?:\.cn)?)")
"""AWS General Reference, "Amazon Simple Storage Service endpoints and quotas"."""


class Copies:
    """Copies of objects.

    Args:
        transport: Looks for objects.
        read: Calls the SDK and reads its answer: `read(operation, address, reader, **parameters)`.
        copy_signed: Copies without the SDK: as `S3Requests.copy`, or None if it can't.
        features: The optional headers that the endpoint supports.
        settings: The storage's settings.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        read: Callable[..., Awaitable[Any]],
        copy_signed: Callable[..., Awaitable[ObjectInfo | None]],
        features: Features,
        settings: S3Settings,
    ) -> None:
        self._transport = transport
        self._read = read
        self._copy_signed = copy_signed
        self._features = features
        self._settings = settings
        self._stored_as = sdk_stored_as(settings)

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        """As `Transport.copy`."""
        sha256 = attributes.metadata.get(METADATA_ALGORITHM) == "sha256"
        return await self._copy(source, address, attributes, sha256=sha256, replace=False)

    async def copy_as_is(
        self, source: ObjectInfo, address: Address, *, replace: bool, algorithm: str | None
    ) -> ObjectInfo | None:
        """As `Transport.copy_as_is`."""
        return await self._copy(source, address, None, sha256=algorithm == "sha256", replace=replace)

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        """As `Transport.copy_part`."""
        with patience(self._settings.timeout_of_copy(stop - start)):
            receipt: Receipt = await self._read(
                "upload_part_copy",
                upload.address,
                partial(copied_part, number, stop - start),
                UploadId=upload.id,
                PartNumber=number,
                CopySourceRange=f"bytes={start}-{stop - 1}",
                **_copy_source(source),
            )
        return receipt

    async def _copy(
        self,
        source: ObjectInfo,
        address: Address,
        attributes: ObjectAttributes | None,
        *,
        sha256: bool,
        replace: bool,
    ) -> ObjectInfo:
        seconds = self._settings.timeout_of_copy(source.size)

        async def copy(supported: Supported) -> ObjectInfo:
            if not replace and CONDITIONS not in supported and (found := await self._transport.head(address)):
                raise KeyExists(str(address), found)
            signed = await self._copy_signed(
                source,
                address,
                supported,
                attributes=attributes,
                sha256=sha256,
                create_only=not replace,
                seconds=seconds,
            )
            if signed is not None:
                return signed
            with patience(seconds):
                made: ObjectInfo = await self._read(
                    "copy_object",
                    address,
                    partial(copied, source, address),
                    **_described(attributes),
                    **_copy_source(source),
                    **({"ChecksumAlgorithm": "SHA256"} if sha256 and COPY_CHECKSUM in supported else {}),
                    **({"IfNoneMatch": "*"} if not replace and CONDITIONS in supported else {}),
                    **self._stored_as,
                )
            return made

        optional = (*(() if replace else (CONDITIONS,)), *((COPY_CHECKSUM,) if sha256 else ()))
        if replace:  # what a lost response leaves behind is replaced
            return await self._features.adapt(copy, optional)
        return await copy_once(
            self._transport,
            address,
            lambda: self._features.adapt(copy, optional),
            may_be_running=_may_be_running,
            seconds=seconds,
            attempts=self._settings.max_attempts,
        )


def store_of(endpoint: str) -> str:
    """The endpoint without its region, if it is Amazon's: regions copy from each other, partitions don't."""
    found = _AMAZON.fullmatch(urlsplit(endpoint).hostname or "")
    return found[1] if found else endpoint.rstrip("/")


def _described(attributes: ObjectAttributes | None) -> dict[str, Any]:
    """The parameters that give a copy other attributes than its source has."""
    if attributes is None:
        return {}
    tagging = {"TaggingDirective": "REPLACE"} if attributes.tags else {}  # the source has none
    return {"MetadataDirective": "REPLACE", **tagging, **sdk_described(attributes)}


def _copy_source(source: ObjectInfo) -> dict[str, Any]:
    return without_none(
        CopySource={"Bucket": source.address.bucket, "Key": source.address.key},
        CopySourceIfMatch=strong(source.version),
    )


def _may_be_running(failure: Uncertain) -> bool:
    """Whether a copy got no response in time, from the store or from a proxy in front of it."""
    cause = failure.__cause__
    if isinstance(cause, botocore_errors.ClientError):
        return bool(cause.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.GATEWAY_TIMEOUT)
    return isinstance(cause, CopyTimedOut) or may_be_running(cause)
