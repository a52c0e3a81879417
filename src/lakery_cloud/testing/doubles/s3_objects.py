"""The requests of a double of S3 for objects: put, get, copy, delete, tags."""

import asyncio
import gzip
import re
from collections.abc import Mapping
from email.utils import format_datetime
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

from lakery_cloud.testing.doubles.s3_buckets import time_of, xml
from lakery_cloud.testing.doubles.s3_checks import CHECKSUM, S3Checks, checksum_of, kept_headers
from lakery_cloud.testing.doubles.s3_state import DoubleVersion, Refusal, S3State

GiB = 1024**3
MAX_PUT = MAX_COPY = 5 * GiB
"""S3 API Reference, "PutObject" and "CopyObject"."""

_NOT_COPIED = ("x-amz-storage-class", "x-amz-server-side-encryption")
"""What a copy has of the request alone (S3 API Reference, "CopyObject")."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class ObjectRequests:
    """Answers requests for objects."""

    def __init__(self, state: S3State, checks: S3Checks) -> None:
        self._state = state
        self._checks = checks

    def put(self, request: web.Request, bucket: str, key: str, body: bytes) -> web.Response:
        """PutObject."""
        if self._state.profile_of(bucket).locked:
            self._checks.check_has_checksum(request, md5=False)
        if len(body) > MAX_PUT:
            raise Refusal(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
        checksums = self._checks.check_body(request, body)
        self._checks.check_write(request)
        self._checks.check_absent(request, bucket, key)
        tags = self._checks.tags_of(request)
        made = self._state.store(bucket, key, body, headers=kept_headers(request), tags=tags, checksums=checksums)
        return web.Response(headers={**self.written(made), **checksums})

    async def get(self, request: web.Request, found: DoubleVersion) -> web.StreamResponse:
        """GetObject and HeadObject."""
        assert found.data is not None
        self._checks.check_if_match(request, "if-match", found)
        headers = {
            **found.headers,
            **self.written(found),
            "etag": f"W/{found.etag}" if self._state.profile.weak_etags else found.etag,
            "last-modified": format_datetime(found.modified, usegmt=True),
            "accept-ranges": "bytes",
        }
        if request.method == "GET" and found.tags:
            headers["x-amz-tagging-count"] = str(len(found.tags))
        if request.headers.get("x-amz-checksum-mode") == "ENABLED" and "range" not in request.headers:
            headers |= found.checksums
        if request.method == "HEAD":
            return web.Response(headers={**headers, "content-length": str(len(found.data))})
        if self._state.profile.archived:
            raise Refusal(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
        if self._decodes(request, found):
            return await self._decoded(request, found, headers)
        wanted = _RANGE.fullmatch(request.headers.get("range", ""))
        if wanted is None:
            return web.Response(body=found.data, headers=headers)
        first, last = int(wanted[1]), int(wanted[2] or len(found.data) - 1)
        if first >= len(found.data):
            raise Refusal(416, "InvalidRange", "The requested range is not satisfiable")
        data = found.data[first : last + 1]
        headers["content-range"] = f"bytes {first}-{first + len(data) - 1}/{len(found.data)}"
        return web.Response(status=206, body=data, headers=headers)

    def _decodes(self, request: web.Request, found: DoubleVersion) -> bool:
        accepted = request.headers.get("accept-encoding", "")
        return (
            self._state.profile.decodes and found.headers.get("content-encoding") == "gzip" and "gzip" not in accepted
        )

    async def _decoded(self, request: web.Request, found: DoubleVersion, headers: dict[str, str]) -> web.StreamResponse:
        """Decoded content, as gateways send it: in chunks, whatever range was requested."""
        assert found.data is not None
        del headers["content-encoding"]
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(gzip.decompress(found.data))
        await response.write_eof()
        return response

    def delete(self, request: web.Request, bucket: str, key: str, version_id: str | None) -> web.Response:
        """DeleteObject."""
        if (current := self._state.current(bucket, key)) is not None:
            self._checks.check_if_match(request, "if-match", current)
        marker = self._state.delete(bucket, key, version_id)
        headers = {"x-amz-delete-marker": "true", "x-amz-version-id": marker.version_id} if marker else {}
        return web.Response(status=204, headers=headers)

    def tagging(self, found: DoubleVersion) -> web.Response:
        """GetObjectTagging."""
        tags = "".join(
            f"<Tag><Key>{escape(key)}</Key><Value>{escape(value)}</Value></Tag>" for key, value in found.tags.items()
        )
        return xml("Tagging", f"<TagSet>{tags}</TagSet>")

    async def copy(self, request: web.Request, bucket: str, key: str) -> web.StreamResponse:
        """CopyObject."""
        source = self.source(request)
        assert source.data is not None
        if len(source.data) > MAX_COPY:
            raise Refusal(400, "InvalidRequest", "The specified copy source is larger than the maximum allowable size")
        self._checks.check_write(request)
        self._checks.check_absent(request, bucket, key)
        response = web.StreamResponse(headers={"content-type": "application/xml"})
        if self._state.profile.copy_spaces:
            await response.prepare(request)
        for _ in range(round(self._state.profile.copy_seconds * 10)):
            await asyncio.sleep(0.1)
            if self._state.profile.copy_spaces:
                await response.write(b" ")
        made = self._copied(request, source, bucket, key)
        checksums = "".join(
            f"<Checksum{name.removeprefix(CHECKSUM).upper()}>{value}</Checksum{name.removeprefix(CHECKSUM).upper()}>"
            for name, value in made.checksums.items()
        )
        result = f"<ETag>{escape(made.etag)}</ETag><LastModified>{time_of(made.modified)}</LastModified>{checksums}"
        if not self._state.profile.copy_spaces:
            answer = xml("CopyObjectResult", result)
            answer.headers.update(self._version(made))
            return answer
        await response.write(f"<CopyObjectResult>{result}</CopyObjectResult>".encode())
        await response.write_eof()
        return response

    def _copied(self, request: web.Request, source: DoubleVersion, bucket: str, key: str) -> DoubleVersion:
        assert source.data is not None
        headers = request.headers
        replaces = headers.get("x-amz-metadata-directive") == "REPLACE"
        directive = "x-amz-tagging-directive"
        has_tags = headers.get(directive) == "REPLACE" and not self._checks.is_ignored(directive)
        checksums = source.checksums if not any("-" in each for each in source.checksums.values()) else {}
        if algorithm := headers.get("x-amz-checksum-algorithm", "").lower():
            checksums = {CHECKSUM + algorithm: checksum_of(source.data, algorithm)}
        given = kept_headers(request)
        copied = {name: value for name, value in source.headers.items() if name not in _NOT_COPIED}
        return self._state.store(
            bucket,
            key,
            source.data,
            headers=given if replaces else {**copied, **{name: given[name] for name in _NOT_COPIED if name in given}},
            tags=self._checks.tags_of(request) if has_tags else source.tags,
            checksums=checksums,
        )

    def source(self, request: web.Request) -> DoubleVersion:
        """The source of a copy."""
        path, _, version = request.headers["x-amz-copy-source"].partition("?versionId=")
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        found = self._state.find(bucket, key, version or None)
        self._checks.check_if_match(request, "x-amz-copy-source-if-match", found)
        if self._state.profile.archived:
            raise Refusal(403, "InvalidObjectState", "The operation is not valid for the object's storage class")
        return found

    def written(self, made: DoubleVersion) -> Mapping[str, str]:
        """The headers that name a version."""
        return {"etag": made.etag, **self._version(made)}

    def _version(self, made: DoubleVersion) -> Mapping[str, str]:
        return {"x-amz-version-id": made.version_id} if self._state.profile.versioned else {}
