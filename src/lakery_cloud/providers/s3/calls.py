"""Calls of the SDK: the requests of S3's API that lakery-cloud does not send itself."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from botocore import exceptions as botocore_errors

from lakery_cloud.engine.cloud_transport import CloudTransport
from lakery_cloud.engine.features import Features
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Unsupported
from lakery_cloud.providers.s3.answers import Answer, check_status, whole, with_md5
from lakery_cloud.providers.s3.errors import SDK_ERRORS, translate
from lakery_cloud.providers.s3.requests import CHECKSUMS, CONDITIONS, OPTIONAL, sdk_payer
from lakery_cloud.providers.s3.settings import S3Settings

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

T = TypeVar("T")


class S3Calls(CloudTransport):
    """A transport whose other requests are calls of the SDK.

    Args:
        client: The SDK's client.
        settings: The storage's settings.
    """

    sdk_errors = (botocore_errors.ClientError, *SDK_ERRORS)

    def __init__(self, client: "S3Client", settings: S3Settings) -> None:
        super().__init__(settings, connections=client.meta.config.max_pool_connections)
        self._client = client
        self._endpoint = client.meta.endpoint_url
        self._features = Features(OPTIONAL if settings.conditional_writes else OPTIONAL - {CONDITIONS})
        self._settings = settings
        self._wants_md5 = False
        self._payer = sdk_payer(settings)

    async def _object_call(self, operation: str, address: Address, **parameters: Any) -> Answer:
        return await self._object_read(operation, address, whole, **parameters)

    async def _object_read(self, operation: str, address: Address, read: Callable[[Answer], T], **parameters: Any) -> T:
        return await self._bucket_read(operation, address, read, Key=address.key, **self._payer, **parameters)

    async def _checked_call(self, operation: str, address: Address, **parameters: Any) -> Answer:
        return await self._checked_read(operation, address, whole, **parameters)

    async def _checked_read(
        self, operation: str, address: Address, read: Callable[[Answer], T], **parameters: Any
    ) -> T:
        """Call an operation that needs a checksum: the SDK's, or `Content-MD5` if the store accepts nothing else."""
        if not self._wants_md5 and CHECKSUMS in self._features.supported:
            try:
                return await self._bucket_read(operation, address, read, **parameters)
            except Unsupported as refusal:
                if not any(header.startswith(("content-md5", CHECKSUMS)) for header in refusal.headers):
                    raise
        with with_md5():
            result = await self._bucket_read(operation, address, read, **parameters)
        self._wants_md5 = True
        return result

    async def _bucket_read(self, operation: str, address: Address, read: Callable[[Answer], T], **parameters: Any) -> T:
        """Call an operation of the SDK, and read its answer. What the reader refuses is an error of the call."""

        async def call() -> T:
            answer = await getattr(self._client, operation)(Bucket=address.bucket, **parameters)
            return read(check_status(operation, answer))

        return await self._call(operation, address, call)

    def _translate(self, error: Exception, operation: str, address: Address) -> Exception:
        return translate(error, operation, address, endpoint=self._endpoint)
