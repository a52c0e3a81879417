"""A proxy in front of Azurite that behaves as an account of Azure Blob Storage does, or differs from it as a profile says.

Azurite stores the blobs and checks signatures. The proxy keeps the versions, and answers what Azurite can't.
"""

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.storage.blob import ContentSettings, StandardBlobTier
from azure.storage.blob.aio import BlobClient, BlobServiceClient
from multidict import CIMultiDict
from yarl import URL

from lakery_cloud.emulators.servers.azurite import ACCOUNT_KEY, ACCOUNT_NAME, Azurite
from lakery_cloud.engine.keys import TEMPORARY_FOLDER
from lakery_cloud.testing.doubles.azure_profiles import AZURE_PROFILES, AzureProfile
from lakery_cloud.testing.faults.dialects_azure import AZURE
from lakery_cloud.testing.faults.exchange import Exchange
from lakery_cloud.testing.faults.flows import RequestBody
from lakery_cloud.testing.faults.forwarding import NO_FAULT, ForwardingProxy
from lakery_cloud.testing.faults.rules import Answer, Armed, FaultMatch

PAGE = "<html><body>Please log in</body></html>"
_COPIES = frozenset({"copy_blob", "put_blob_from_url"})
_WRITES = frozenset({"put_blob", "put_block_list", *_COPIES})
_METADATA = "x-ms-meta-"
_ENDLESS = "<EnumerationResults><Blobs/><NextMarker>same</NextMarker></EnumerationResults>"


@dataclass(slots=True)
class BlobVersion:
    """A version of a blob in an account with versions.

    Attributes:
        id: Its name.
        is_current: Whether it is the blob.
        is_deleted: Whether it is soft-deleted.
    """

    id: str
    is_current: bool = True
    is_deleted: bool = False


class AzureDouble(ForwardingProxy):
    """A proxy on a free port of 127.0.0.1, for the duration of an `async with` block.

    Args:
        server: A running Azurite.
        profile: The account that it behaves as, or the name of its profile.

    Attributes:
        server: The Azurite behind it.
        profile: The account that it behaves as.
        retained: Containers that are immutable if the profile is; None is all.
        url: URL of the proxy.
        exchanges: The requests, in order of arrival.
        versions: (container, key) -> versions, the newest last. Only versioned accounts have some.
    """

    def __init__(self, server: Azurite, profile: AzureProfile | str = "azure") -> None:
        super().__init__(server.endpoint_url, dialect=AZURE)
        self.server = server
        self.profile = AZURE_PROFILES[profile] if isinstance(profile, str) else profile
        self.retained: set[str] | None = None
        self.versions: dict[tuple[str, str], list[BlobVersion]] = {}
        self._store = BlobServiceClient.from_connection_string(server.connection_string)
        self._numbers = itertools.count(1)
        self._throttled: set[tuple[str, str]] = set()

    @property
    def endpoint_url(self) -> str:
        """URL of the account."""
        return f"{self.url}/{ACCOUNT_NAME}"

    @property
    def connection_string(self) -> str:
        """The connection string of the account."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT_NAME};AccountKey={ACCOUNT_KEY};"
            f"BlobEndpoint={self.endpoint_url};"
        )

    async def __aenter__(self) -> Self:
        await self._store.__aenter__()
        return await super().__aenter__()

    async def __aexit__(self, *raised: object) -> None:
        await super().__aexit__(*raised)
        await self._store.close()

    def kept_versions(self, container: str) -> list[str]:
        """The keys of versions that are not current, of which a deletion left something."""
        return [
            key
            for (kept_in, key), versions in self.versions.items()
            for version in versions
            if kept_in == container and not version.is_current
        ]

    async def match_fault(self, exchange: Exchange, body: RequestBody) -> FaultMatch:
        self.exchanges.append(exchange)
        answer = await self._answer(exchange)
        return NO_FAULT if answer is None else FaultMatch(Armed(answer, None))

    async def _answer(self, exchange: Exchange) -> Answer | None:
        """The response that takes the place of Azurite's."""
        profile, operation, container = self.profile, exchange.operation, _container(exchange)
        if operation in profile.pages:
            return Answer(200, headers={"Content-Type": "text/html"}, body=PAGE)
        if operation in profile.invents:
            return Answer(profile.invents[operation], body="")
        if profile.same_marker and operation == "list_blobs":
            return Answer(200, headers={"x-ms-request-id": "0"}, body=_ENDLESS)
        if profile.versioned and operation == "list_blobs" and "include=versions" in exchange.target:
            return self._list_versions(container, URL(exchange.target, encoded=True).query.get("prefix", ""))
        if answer := self._refuse(exchange) or self._throttle(exchange):
            return answer
        if profile.archived and operation == "get_blob" and f"{TEMPORARY_FOLDER}/" not in exchange.key:
            return Answer(409, "BlobArchived", "This operation is not permitted on an archived blob.")
        if operation == "delete_blob":
            return await self._delete(exchange, container)
        if operation in _COPIES:
            await asyncio.sleep(profile.copy_seconds)  # also after the client has disconnected
        if self._is_immutable(container) and operation in _WRITES and await self._is_committed(container, exchange.key):
            return self._immutable()
        return await self._put_from_url(exchange, container) if operation == "put_blob_from_url" else None

    async def _put_from_url(self, exchange: Exchange, container: str) -> Answer:
        """Put Blob From URL, which Azurite does not have: read the source as anyone could, and put what was read."""
        headers = exchange.headers
        version = headers.get("x-ms-source-if-match")
        pinned: dict[str, Any] = {"etag": version, "match_condition": MatchConditions.IfNotModified} if version else {}
        # The requests of the double itself are not requests of the client.
        url = headers["x-ms-copy-source"].replace(self.url, self.server.endpoint_url)
        tags = dict(parse_qsl(headers.get("x-ms-tags", "")))
        metadata = {name.removeprefix(_METADATA): value for name, value in headers.items() if _METADATA in name}
        try:
            async with BlobClient.from_blob_url(url) as source:
                found = await source.download_blob(decompress=False, **pinned)
                data, settings = await found.readall(), found.properties.content_settings
        except HttpResponseError as error:
            return Answer(error.status_code or 500, "CannotVerifyCopySource")
        try:
            made = await self._store.get_blob_client(container, exchange.key).upload_blob(
                data,
                overwrite=headers.get("if-none-match") != "*",
                content_settings=ContentSettings(settings.content_type, settings.content_encoding),
                metadata=metadata,
                tags=tags,
                standard_blob_tier=StandardBlobTier(tier) if (tier := headers.get("x-ms-access-tier")) else None,
            )
        except HttpResponseError as error:
            code = getattr(error, "error_code", None)
            return Answer(error.status_code or 500, str(getattr(code, "value", code)))
        answered = CIMultiDict({"ETag": made["etag"], "x-ms-request-id": "0"})
        if self.profile.versioned:
            self._note_version(exchange, answered)
        return Answer(201, headers=dict(answered), body="")

    def _list_versions(self, container: str, prefix: str) -> Answer:
        """The versions directly below a folder, in one page. They have no sizes, since nobody keeps their contents."""
        shown = "".join(
            f"<Blob><Name>{escape(key)}</Name><VersionId>{version.id}</VersionId>"
            f"{'<IsCurrentVersion>true</IsCurrentVersion>' if version.is_current else ''}"
            "<Properties><Etag>0x0</Etag><Content-Length>0</Content-Length><BlobType>BlockBlob</BlobType></Properties>"
            "</Blob>"
            for (kept_in, key), versions in self.versions.items()
            if kept_in == container and key.startswith(prefix) and "/" not in key.removeprefix(prefix)
            for version in versions
            if not version.is_deleted
        )
        body = f"<EnumerationResults><Blobs>{shown}</Blobs><NextMarker/></EnumerationResults>"
        return Answer(200, headers={"x-ms-request-id": "0", "Content-Type": "application/xml"}, body=body)

    def _refuse(self, exchange: Exchange) -> Answer | None:
        for name in self.profile.unsupported:
            if name in exchange.headers:
                return Answer(500, "FeatureNotSupported", f"{name} header or parameter is not supported in this mode.")
        for refusal in self.profile.refusals:
            if refusal.operation == exchange.operation:
                return Answer(refusal.status, refusal.code, refusal.message)
        return None

    def _throttle(self, exchange: Exchange) -> Answer | None:
        request = (exchange.method, exchange.target)
        if not self.profile.throttled or request in self._throttled:
            return None
        self._throttled.add(request)
        refusal = self.profile.throttled[len(self._throttled) % len(self.profile.throttled)]
        return Answer(refusal.status, refusal.code, headers={"Retry-After": str(refusal.retry_after)})

    def _is_immutable(self, container: str) -> bool:
        return bool(self.profile.immutable) and (self.retained is None or container in self.retained)

    def _immutable(self) -> Answer:
        if self.profile.immutable == "hold":
            reason = "one or more legal holds"
            return Answer(409, "BlobImmutableDueToLegalHold", f"The blob is immutable due to {reason}.")
        return Answer(409, "BlobImmutableDueToPolicy", "The blob is immutable due to a policy.")

    async def _delete(self, exchange: Exchange, container: str) -> Answer | None:
        query = URL(exchange.target, encoded=True).query
        if name := query.get("versionid"):
            return self._delete_version(container, exchange.key, name, is_permanent="deletetype" in query)
        if not await self._is_committed(container, exchange.key):
            return await self._discard_blocks(container, exchange.key)
        return self._immutable() if self._is_immutable(container) else None

    def _delete_version(self, container: str, key: str, name: str, *, is_permanent: bool) -> Answer:
        kept = self.versions.get((container, key), [])
        version = next((version for version in kept if version.id == name), None)
        if version is None:
            return Answer(404, "BlobNotFound", "The specified blob does not exist.")
        if version.is_current:
            return Answer(403, "OperationNotAllowedOnRootBlob", "The operation is not allowed on the root blob.")
        if is_permanent and not self.profile.purges:
            return Answer(409, "PermanentDeleteNotEnabled", "Permanent delete is not enabled for this account.")
        if is_permanent and not version.is_deleted:
            return Answer(409, "BlobSnapshotNotSoftDeleted", "The version is not soft-deleted.")
        if self.profile.soft_deletes and not is_permanent:
            version.is_deleted = True
            return _deleted(is_permanent=False)
        kept.remove(version)
        return _deleted(is_permanent=True)

    async def _discard_blocks(self, container: str, key: str) -> Answer | None:
        """Delete a blob that is not committed, which Azurite does not find."""
        blob = self._store.get_blob_client(container, key)
        try:
            _, uncommitted = await blob.get_block_list("uncommitted")
        except ResourceNotFoundError:
            return None
        if not uncommitted:
            return None
        await blob.commit_block_list([])
        await blob.delete_blob()
        return _deleted(is_permanent=True)

    async def _is_committed(self, container: str, key: str) -> bool:
        return bool(await self._store.get_blob_client(container, key).exists())

    def change_headers(self, exchange: Exchange, headers: CIMultiDict[str]) -> None:
        profile, operation = self.profile, exchange.operation
        has_succeeded = exchange.status in (200, 201, 202, 206)
        if operation in profile.empties and has_succeeded:
            headers.clear()
        for name in profile.missing:
            if not profile.missing_from or operation in profile.missing_from:
                headers.popall(name, None)
        if profile.weak_etags and "ETag" in headers:
            headers["ETag"] = f"W/{headers['ETag']}"
        if operation == "get_container_properties" and self._is_immutable(_container(exchange)):
            headers["x-ms-has-immutability-policy"] = str(profile.immutable == "policy").lower()
            headers["x-ms-has-legal-hold"] = str(profile.immutable == "hold").lower()
        if has_succeeded and profile.versioned:
            self._note_version(exchange, headers)

    def _note_version(self, exchange: Exchange, headers: CIMultiDict[str]) -> None:
        """Make, retire or name the version that a request is about."""
        kept = self.versions.setdefault((_container(exchange), exchange.key), [])
        if exchange.operation in _WRITES or exchange.operation == "delete_blob":
            for version in kept:
                version.is_current = False
        if exchange.operation in _WRITES:
            kept.append(BlobVersion(f"2026-11-26T00:00:00.{next(self._numbers):07}Z"))
        if exchange.operation == "delete_blob":
            headers["x-ms-delete-type-permanent"] = "true"
        elif kept and kept[-1].is_current and exchange.operation in (*_WRITES, "get_blob", "get_blob_properties"):
            headers["x-ms-version-id"] = kept[-1].id


def _deleted(*, is_permanent: bool) -> Answer:
    headers = {"x-ms-request-id": "0", "x-ms-delete-type-permanent": str(is_permanent).lower()}
    return Answer(202, headers=headers, body="")


def _container(exchange: Exchange) -> str:
    segments = URL(exchange.target, encoded=True).path.split("/")
    return segments[2] if len(segments) > 2 else ""
