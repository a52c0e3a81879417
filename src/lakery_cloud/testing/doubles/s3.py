"""A test double of S3 that enforces what its documentation requires, or differs from it as a profile says.

It implements the requests that storages send, in memory, and checks access keys but no signatures.
"""

import asyncio
import base64
import gzip
import hashlib
import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Self
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

import google_crc32c
from aiohttp import web

from lakery_cloud.testing.doubles.s3_profiles import S3_PROFILES, S3Profile

MiB = 1024**2
MIN_PART = 5 * MiB
"""S3 User Guide, "Amazon S3 multipart upload limits"."""
KEPT = ("content-type", "content-encoding", "x-amz-storage-class", "x-amz-server-side-encryption")
METADATA = "x-amz-meta-"

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(slots=True)
class DoubleVersion:
    """One version of an object.

    Attributes:
        data: Its bytes; None for a delete marker.
        headers: The headers that were stored with it.
        tags: Its tags.
        version_id: Name of the version.
        modified: Time of the write.
        etag: Its ETag, with quotes.
        sha256: The SHA-256 that the store has verified over the whole object, in base64.
    """

    data: bytes | None
    headers: Mapping[str, str]
    tags: Mapping[str, str]
    version_id: str
    modified: datetime
    etag: str
    sha256: str | None = None


@dataclass(slots=True)
class DoubleUpload:
    """An unfinished multipart upload."""

    key: str
    headers: Mapping[str, str]
    tags: Mapping[str, str]
    begun: datetime
    parts: dict[int, bytes] = field(default_factory=dict)


class Refusal(Exception):
    """An error response."""

    def __init__(self, status: int, code: str, message: str = "", *, condition: str = "") -> None:
        super().__init__(message or code)
        self.status = status
        self.code = code
        self.condition = condition


class StrictS3:
    """A server on a free port of 127.0.0.1, for the duration of an `async with` block. Buckets stand in the path.

    Args:
        profile: The store that it behaves as, or the name of its profile.

    Attributes:
        url: URL of the server.
        buckets: Bucket -> key -> versions, the newest last.
        uploads: Bucket -> id -> unfinished upload.
        lifecycle: Bucket -> its lifecycle configuration, in XML.
        received: The requests, as `<method> <path and query>`.
        damage: Changes the next body; used once.
    """

    access_key_id = "double"
    secret_access_key = "double-secret"  # noqa: S105, a test server's
    region = "us-east-1"

    def __init__(self, profile: S3Profile | str = "aws") -> None:
        self.profile = S3_PROFILES[profile] if isinstance(profile, str) else profile
        self.url = ""
        self.buckets: dict[str, dict[str, list[DoubleVersion]]] = {}
        self.uploads: dict[str, dict[str, DoubleUpload]] = {}
        self.lifecycle: dict[str, bytes] = {}
        self.received: list[str] = []
        self.damage: Callable[[bytes], bytes] | None = None
        self._numbers = itertools.count(1)
        application = web.Application(client_max_size=16 * 1024**3)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, auto_decompress=False, shutdown_timeout=1, access_log=None)

    @property
    def endpoint_url(self) -> str:
        """URL of the server."""
        return self.url

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def current(self, bucket: str, key: str) -> DoubleVersion | None:
        """The current version of an object; None if it does not exist."""
        versions = self.buckets.get(bucket, {}).get(key)
        return versions[-1] if versions and versions[-1].data is not None else None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append(f"{request.method} {request.path_qs}")
        body = await request.read()
        try:
            if f"Credential={self.access_key_id}/" not in request.headers.get("authorization", ""):
                raise Refusal(403, "InvalidAccessKeyId", "The AWS access key Id you provided does not exist.")
            if self.damage is not None and body:
                body, self.damage = self.damage(body), None
            bucket, _, key = unquote(request.rel_url.raw_path.removeprefix("/")).partition("/")
            query = dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True))
            if request.method == "PUT" and not key and not query:
                self.buckets.setdefault(bucket, {})
                self.uploads.setdefault(bucket, {})
                return web.Response()
            if self.profile.page:
                return web.Response(body="<html>Please log in</html>", content_type="text/html")
            if bucket not in self.buckets:
                raise Refusal(404, "NoSuchBucket")
            answer = await (
                self._on_object(request, bucket, key, query, body)
                if key
                else self._on_bucket(request, bucket, query, body)
            )
        except Refusal as refusal:
            answer = self._refused(request, refusal)
        for name in self.profile.missing:
            answer.headers.popall(name, None)
        return answer

    def _refused(self, request: web.Request, refusal: Refusal) -> web.Response:
        condition = f"<Condition>{refusal.condition}</Condition>" if refusal.condition else ""
        xml = f"<Error><Code>{refusal.code}</Code><Message>{escape(str(refusal))}</Message>{condition}</Error>"
        return web.Response(status=refusal.status, body=b"" if request.method == "HEAD" else xml.encode())

    async def _on_bucket(
        self, request: web.Request, bucket: str, query: Mapping[str, str], body: bytes
    ) -> web.StreamResponse:
        if "lifecycle" in query:
            return self._on_lifecycle(request, bucket, body)
        if "uploads" in query:
            return self._list_uploads(bucket, query.get("prefix", ""))
        if "delete" in query:
            return self._delete_many(request, bucket, body)
        if "versions" in query:
            return self._list_versions(bucket, query.get("prefix", ""))
        if request.method == "DELETE":
            del self.buckets[bucket]
            return web.Response(status=204)
        if request.method == "HEAD":
            return web.Response(headers={"x-amz-bucket-region": self.region})
        return self._list(bucket, query)

    async def _on_object(
        self, request: web.Request, bucket: str, key: str, query: Mapping[str, str], body: bytes
    ) -> web.StreamResponse:
        method = request.method
        if "tagging" in query:
            return self._tagging(self._find(bucket, key, query))
        if "uploads" in query:
            return self._begin(request, bucket, key)
        if "uploadId" in query:
            return await self._on_upload(request, bucket, key, query, body)
        if method == "PUT" and "x-amz-copy-source" in request.headers:
            return await self._copy(request, bucket, key)
        if method == "PUT":
            return self._put(request, bucket, key, body)
        if method == "DELETE":
            return self._delete(bucket, key, query.get("versionId"))
        return await self._get(request, self._find(bucket, key, query))

    # Objects.

    def _put(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        if self.profile.invents:
            return web.Response()
        if self.profile.locked and not _has_checksum(request):
            raise Refusal(400, "InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required")
        sha256 = self._check_body(request, body)
        self._check_write(request)
        self._check_absent(request, bucket, key)
        made = self._store(bucket, key, body, _kept(request), self._tags(request), sha256=sha256)
        return web.Response(headers=self._written(made))

    def _find(self, bucket: str, key: str, query: Mapping[str, str]) -> DoubleVersion:
        found = self.current(bucket, key)
        if wanted := query.get("versionId"):
            found = next((each for each in self.buckets[bucket].get(key, ()) if each.version_id == wanted), None)
        if found is None or found.data is None:
            raise Refusal(404, "NoSuchKey")
        return found

    async def _get(self, request: web.Request, found: DoubleVersion) -> web.StreamResponse:
        assert found.data is not None
        if request.headers.get("if-match", found.etag) not in (found.etag, self._etag(found)):
            raise Refusal(412, "PreconditionFailed", condition="If-Match")
        headers = {
            **found.headers,
            "etag": self._etag(found),
            "last-modified": format_datetime(found.modified, usegmt=True),
            "accept-ranges": "bytes",
        }
        if self.profile.versioned:
            headers["x-amz-version-id"] = found.version_id
        if found.sha256 and request.headers.get("x-amz-checksum-mode") == "ENABLED":
            headers["x-amz-checksum-sha256"] = found.sha256
        if request.method == "HEAD":
            return web.Response(headers={**headers, "content-length": str(len(found.data))})
        if self.profile.archived:
            raise Refusal(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
        if self._decodes(request, found):
            return await self._decoded(request, found, headers)
        wanted = _RANGE.fullmatch(request.headers.get("range", ""))
        if wanted is None:
            return web.Response(body=found.data, headers=headers)
        first, last = int(wanted[1]), int(wanted[2] or len(found.data) - 1)
        if first >= len(found.data):
            raise Refusal(416, "InvalidRange")
        data = found.data[first : last + 1]
        headers["content-range"] = f"bytes {first}-{first + len(data) - 1}/{len(found.data)}"
        return web.Response(status=206, body=data, headers=headers)

    def _decodes(self, request: web.Request, found: DoubleVersion) -> bool:
        accepted = request.headers.get("accept-encoding", "")
        return self.profile.decodes and found.headers.get("content-encoding") == "gzip" and "gzip" not in accepted

    async def _decoded(self, request: web.Request, found: DoubleVersion, headers: dict[str, str]) -> web.StreamResponse:
        assert found.data is not None
        del headers["content-encoding"]
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(gzip.decompress(found.data))
        await response.write_eof()
        return response

    def _delete(self, bucket: str, key: str, version_id: str | None) -> web.Response:
        versions = self.buckets[bucket].setdefault(key, [])
        if version_id is not None:
            if self.profile.locked:
                raise Refusal(403, "AccessDenied", "Access Denied because object protected by object lock.")
            versions[:] = [each for each in versions if each.version_id != version_id]
        elif self.profile.versioned:
            marker = DoubleVersion(None, {}, {}, self._number(), datetime.now(UTC), "")
            versions.append(marker)
        else:
            versions.clear()
        if not versions:
            del self.buckets[bucket][key]
        return web.Response(status=204)

    def _delete_many(self, request: web.Request, bucket: str, body: bytes) -> web.Response:
        if not self.profile.deletes_many:
            raise Refusal(501, "NotImplemented")
        self._check_md5(request)
        for element in ET.fromstring(body).iter():  # noqa: S314, the tests' own
            if element.tag.endswith("Key"):
                self._delete(bucket, element.text or "", None)
        return _xml("DeleteResult", "")

    def _tagging(self, found: DoubleVersion) -> web.Response:
        if not self.profile.tags:
            raise Refusal(501, "NotImplemented", "GetObjectTagging not implemented")
        tags = "".join(
            f"<Tag><Key>{escape(key)}</Key><Value>{escape(value)}</Value></Tag>" for key, value in found.tags.items()
        )
        return _xml("Tagging", f"<TagSet>{tags}</TagSet>")

    async def _copy(self, request: web.Request, bucket: str, key: str) -> web.StreamResponse:
        headers = request.headers
        if "x-amz-tagging-directive" in headers and not self.profile.tag_directive:
            raise Refusal(501, "NotImplemented", "Header 'x-amz-tagging-directive' not implemented")
        if "x-amz-checksum-algorithm" in headers and not self.profile.copy_checksum:
            raise Refusal(501, "NotImplemented", "Header 'x-amz-checksum-algorithm' not implemented")
        source = self._source(request)
        self._check_write(request)
        self._check_absent(request, bucket, key)
        assert source.data is not None
        replaces = headers.get("x-amz-metadata-directive") == "REPLACE"
        kept = _kept(request) if replaces else source.headers
        tags = self._tags(request) if headers.get("x-amz-tagging-directive") == "REPLACE" else source.tags
        sha256 = _base64(hashlib.sha256(source.data).digest()) if "x-amz-checksum-algorithm" in headers else None
        response = web.StreamResponse(headers={"content-type": "application/xml"})
        if self.profile.copy_spaces:
            await response.prepare(request)
        for _ in range(round(self.profile.copy_seconds * 10)):
            await asyncio.sleep(0.1)
            if self.profile.copy_spaces:
                await response.write(b" ")
        made = self._store(bucket, key, source.data, kept, tags, sha256=sha256)
        checksum = f"<ChecksumSHA256>{sha256}</ChecksumSHA256>" if sha256 else ""
        result = f"<ETag>{escape(made.etag)}</ETag><LastModified>{_time(made.modified)}</LastModified>{checksum}"
        content = f"<CopyObjectResult>{result}</CopyObjectResult>".encode()
        if not self.profile.copy_spaces:
            return web.Response(body=content, headers=self._written(made), content_type="application/xml")
        await response.write(content)
        await response.write_eof()
        return response

    def _source(self, request: web.Request) -> DoubleVersion:
        path, _, version = request.headers["x-amz-copy-source"].partition("?versionId=")
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        found = self._find(bucket, key, {"versionId": version} if version else {})
        if request.headers.get("x-amz-copy-source-if-match", found.etag) not in (found.etag, self._etag(found)):
            raise Refusal(412, "PreconditionFailed", condition="x-amz-copy-source-If-Match")
        return found

    # Multipart uploads.

    def _begin(self, request: web.Request, bucket: str, key: str) -> web.Response:
        self._check_write(request)
        upload_id = self._number()
        self.uploads[bucket][upload_id] = DoubleUpload(key, _kept(request), self._tags(request), datetime.now(UTC))
        return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")

    async def _on_upload(
        self, request: web.Request, bucket: str, key: str, query: Mapping[str, str], body: bytes
    ) -> web.StreamResponse:
        upload = self.uploads[bucket].get(query["uploadId"])
        if upload is None or upload.key != key:
            raise Refusal(404, "NoSuchUpload")
        if request.method == "DELETE":
            del self.uploads[bucket][query["uploadId"]]
            return web.Response(status=204)
        if request.method == "GET":
            parts = "".join(f"<Part><PartNumber>{number}</PartNumber></Part>" for number in sorted(upload.parts))
            return _xml("ListPartsResult", parts)
        if request.method == "POST":
            return self._complete(request, bucket, query["uploadId"], body)
        number = int(query["partNumber"])
        if "x-amz-copy-source" in request.headers:
            source = self._source(request)
            assert source.data is not None
            wanted = _RANGE.fullmatch(request.headers["x-amz-copy-source-range"])
            assert wanted is not None
            upload.parts[number] = source.data[int(wanted[1]) : int(wanted[2]) + 1]
            etag = escape(_etag(upload.parts[number]))
            crc = _base64(google_crc32c.value(upload.parts[number]).to_bytes(4, "big"))
            checksum = f"<ChecksumCRC32C>{crc}</ChecksumCRC32C>" if self.profile.checksums else ""
            return _xml("CopyPartResult", f"<ETag>{etag}</ETag>{checksum}")
        self._check_body(request, body)
        upload.parts[number] = body
        return web.Response(headers={"etag": _etag(body)})

    def _complete(self, request: web.Request, bucket: str, upload_id: str, body: bytes) -> web.Response:
        if self.profile.invents:
            return web.Response()
        if "x-amz-mp-object-size" in request.headers and not self.profile.object_size:
            raise Refusal(501, "NotImplemented", "Header 'x-amz-mp-object-size' not implemented")
        upload = self.uploads[bucket][upload_id]
        numbers = [int(each.text or "") for each in ET.fromstring(body).iter() if each.tag.endswith("PartNumber")]  # noqa: S314
        if not numbers or not set(numbers) <= upload.parts.keys():
            raise Refusal(400, "InvalidPart")
        parts = [upload.parts[number] for number in numbers]
        if any(len(part) < MIN_PART for part in parts[:-1]):
            raise Refusal(400, "EntityTooSmall")
        if self.profile.equal_parts and len({*map(len, parts[:-1])}) > 1:
            raise Refusal(400, "InvalidPart", "All non-trailing parts must have the same length.")
        data = b"".join(parts)
        if int(request.headers.get("x-amz-mp-object-size", len(data))) != len(data):
            raise Refusal(400, "InvalidRequest", "The object size does not match")
        self._check_absent(request, bucket, upload.key)
        made = self._store(bucket, upload.key, data, upload.headers, upload.tags, parts=len(parts))
        del self.uploads[bucket][upload_id]
        answer = _xml("CompleteMultipartUploadResult", f"<ETag>{escape(made.etag)}</ETag>")
        answer.headers.update(self._written(made))
        return answer

    # Listings and lifecycle.

    def _list(self, bucket: str, query: Mapping[str, str]) -> web.Response:
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        found, folders = [], set()
        limit = int(query.get("max-keys", 1000))
        for key in sorted(self.buckets[bucket]):
            version = self.current(bucket, key)
            if version is None or version.data is None or not key.startswith(prefix) or key <= after:
                continue
            name, slash, _ = key.removeprefix(prefix).partition("/")
            if slash and query.get("delimiter"):
                folders.add(f"{prefix}{name}/")
                continue
            found.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(version.data)}</Size><ETag>{escape(version.etag)}</ETag>"
                f"<LastModified>{_time(version.modified)}</LastModified></Contents>"
            )
            if len(found) == limit:
                more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(key)}</NextContinuationToken>"
                return _xml("ListBucketResult", more + "".join(found))
        shown = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in sorted(folders))
        return _xml("ListBucketResult", f"<IsTruncated>false</IsTruncated>{''.join(found)}{shown}")

    def _list_uploads(self, bucket: str, prefix: str) -> web.Response:
        shown = "".join(
            f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{_time(upload.begun)}</Initiated></Upload>"
            for upload_id, upload in self.uploads[bucket].items()
            if upload.key.startswith(prefix)
        )
        return _xml("ListMultipartUploadsResult", f"<IsTruncated>false</IsTruncated>{shown}")

    def _list_versions(self, bucket: str, prefix: str) -> web.Response:
        shown = []
        for key, versions in sorted(self.buckets[bucket].items()):
            for version in reversed(versions) if key.startswith(prefix) else ():
                name = "Version" if version.data is not None else "DeleteMarker"
                latest = "true" if version is versions[-1] else "false"
                shown.append(
                    f"<{name}><Key>{escape(key)}</Key><VersionId>{version.version_id}</VersionId>"
                    f"<IsLatest>{latest}</IsLatest><LastModified>{_time(version.modified)}</LastModified></{name}>"
                )
        return _xml("ListVersionsResult", f"<IsTruncated>false</IsTruncated>{''.join(shown)}")

    def _on_lifecycle(self, request: web.Request, bucket: str, body: bytes) -> web.Response:
        if request.method == "PUT":
            self._check_md5(request)
            self.lifecycle[bucket] = body
        elif request.method == "DELETE":
            self.lifecycle.pop(bucket, None)
            return web.Response(status=204)
        elif bucket not in self.lifecycle:
            raise Refusal(404, "NoSuchLifecycleConfiguration")
        return web.Response(body=self.lifecycle[bucket], content_type="application/xml")

    # Checks, and what is stored.

    def _check_md5(self, request: web.Request) -> None:
        if self.profile.needs_md5 and "content-md5" not in request.headers:
            raise Refusal(400, "InvalidRequest", "Missing required header for this request: Content-MD5")

    def _check_write(self, request: web.Request) -> None:
        demanded = self.profile.encryption
        if demanded and request.headers.get("x-amz-server-side-encryption") != demanded:
            raise Refusal(403, "AccessDenied", "explicit deny in a resource-based policy")

    def _check_absent(self, request: web.Request, bucket: str, key: str) -> None:
        if "if-none-match" not in request.headers or self.profile.conditions == "ignored":
            return
        if self.profile.conditions == "refused":
            raise Refusal(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
        if self.current(bucket, key) is not None:
            raise Refusal(412, "PreconditionFailed", condition="If-None-Match")

    def _check_body(self, request: web.Request, body: bytes) -> str | None:
        """Compare a body with its checksums; return its SHA-256 if it was one of them."""
        headers = request.headers
        names = [name for name in headers if name.lower().startswith("x-amz-checksum-")]
        if names and not self.profile.checksums:
            raise Refusal(501, "NotImplemented", f"Header '{names[0].lower()}' not implemented")
        sha256 = hashlib.sha256(body).digest()
        if len(headers.get("x-amz-content-sha256", "")) == 64 and headers["x-amz-content-sha256"] != sha256.hex():
            raise Refusal(400, "XAmzContentSHA256Mismatch")
        crc32c = google_crc32c.value(body).to_bytes(4, "big")
        for name, expected in (("sha256", sha256), ("crc32c", crc32c)):
            if headers.get(f"x-amz-checksum-{name}", _base64(expected)) != _base64(expected):
                raise Refusal(400, "BadDigest", f"The {name} you specified did not match the calculated checksum.")
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        if headers.get("content-md5", _base64(md5)) != _base64(md5):
            raise Refusal(400, "BadDigest")
        return headers.get("x-amz-checksum-sha256")

    def _tags(self, request: web.Request) -> dict[str, str]:
        tags = dict(parse_qsl(request.headers.get("x-amz-tagging", ""), keep_blank_values=True))
        if tags and not self.profile.tags:
            raise Refusal(501, "NotImplemented", "Header 'x-amz-tagging' not implemented")
        return tags

    def _store(
        self,
        bucket: str,
        key: str,
        data: bytes,
        headers: Mapping[str, str],
        tags: Mapping[str, str],
        *,
        sha256: str | None = None,
        parts: int = 0,
    ) -> DoubleVersion:
        etag = _etag(data) if not parts else f'{_etag(data)[:-1]}-{parts}"'
        made = DoubleVersion(data, headers, tags, self._number(), datetime.now(UTC), etag, sha256)
        versions = self.buckets[bucket].setdefault(key, [])
        if not self.profile.versioned:
            versions.clear()
        versions.append(made)
        return made

    def _written(self, made: DoubleVersion) -> dict[str, str]:
        version = {"x-amz-version-id": made.version_id} if self.profile.versioned else {}
        return {"etag": made.etag, **version}

    def _etag(self, found: DoubleVersion) -> str:
        return f"W/{found.etag}" if self.profile.weak_etags else found.etag

    def _number(self) -> str:
        return f"n{next(self._numbers):08d}"


def _has_checksum(request: web.Request) -> bool:
    return "content-md5" in request.headers or any(
        name.lower().startswith("x-amz-checksum-") for name in request.headers
    )


def _kept(request: web.Request) -> dict[str, str]:
    return {
        name.lower(): value
        for name, value in request.headers.items()
        if name.lower() in KEPT or name.lower().startswith(METADATA)
    }


def _xml(root: str, content: str) -> web.Response:
    return web.Response(body=f"<{root}>{content}</{root}>".encode(), content_type="application/xml")


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()
