"""The requests of a double of Cloud Storage about single objects."""

import asyncio
import gzip
import json
import re
import secrets
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from lakery_cloud.testing.doubles.gcs_state import DoubleObject, GCSState, Refusal, checksums_of

MAX_SOURCES = 32
"""Cloud Storage, "Objects: compose": objects that one request composes."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class ObjectRequests:
    """Answers requests about objects.

    Attributes:
        bytes_per_rewrite: Bytes that one call of rewriteTo copies before it returns a token.
    """

    def __init__(self, state: GCSState, *, bytes_per_rewrite: int) -> None:
        self._state = state
        self.bytes_per_rewrite = bytes_per_rewrite
        self._rewrites: dict[str, tuple[tuple[Any, ...], int]] = {}

    def describe(self, bucket: str, name: str, found: DoubleObject) -> dict[str, Any]:
        """The API's description of an object."""
        described = {
            "kind": "storage#object",
            "bucket": bucket,
            "name": name,
            "generation": str(found.generation),
            "metageneration": str(found.metageneration),
            "size": str(len(found.data)),
            "timeCreated": found.updated,
            "updated": found.updated,
            "storageClass": self._state.profile.storage_class,
            **checksums_of(found.data),
            **found.resource,
            **dict.fromkeys(self._state.profile.null_fields),
        }
        return {name: value for name, value in described.items() if name not in self._state.profile.missing_fields}

    def get(self, bucket: str, name: str, request: web.Request) -> web.Response:
        """objects.get, of the description or of the content."""
        found = self._state.find(bucket, name, request.query, operation="objects.get")
        if request.query.get("alt", "json") != "media":
            return web.json_response(self.describe(bucket, name, found))
        checksums = checksums_of(found.data)
        encoding = found.resource.get("contentEncoding")
        headers = {
            "Content-Type": found.resource.get("contentType", "application/octet-stream"),
            "X-Goog-Generation": str(found.generation),
            "X-Goog-Hash": f"crc32c={checksums['crc32c']},md5={checksums['md5Hash']}",
            "X-Goog-Stored-Content-Length": str(len(found.data)),
            "X-Goog-Stored-Content-Encoding": encoding or "identity",
        }
        if encoding == "gzip" and "gzip" not in request.headers.get("Accept-Encoding", ""):
            # Decompressive transcoding ignores ranges.
            return web.Response(body=gzip.decompress(found.data), headers=headers)
        headers |= {"Content-Encoding": encoding} if encoding else {}
        span = _RANGE.fullmatch(request.headers.get("Range", ""))
        if span is None:
            return web.Response(body=found.data, headers=headers)
        size, start = len(found.data), int(span[1])
        stop = min(int(span[2]) + 1 if span[2] else size, size)
        if start >= stop:
            raise Refusal(416, "requestedRangeNotSatisfiable", "Request range not satisfiable")
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return web.Response(status=206, body=found.data[start:stop], headers=headers)

    def delete(self, bucket: str, name: str, query: Mapping[str, str]) -> web.Response:
        """objects.delete."""
        self._state.delete(bucket, name, query)
        return web.Response(status=204)

    def patch(self, bucket: str, name: str, body: bytes, query: Mapping[str, str]) -> web.Response:
        """objects.patch. Null removes a field; custom metadata is merged."""
        found = self._state.find(bucket, name, query, operation="objects.patch")
        self._state.note_change(bucket, name)
        changes = json.loads(body)
        merged = {**(found.resource.get("metadata") or {}), **(changes.pop("metadata", None) or {})}
        metadata = {key: value for key, value in merged.items() if value is not None}
        fields = {**found.resource, **changes, "metadata": metadata}
        found.resource = {key: value for key, value in fields.items() if value}
        found.metageneration += 1
        return web.json_response(self.describe(bucket, name, found))

    def move(self, bucket: str, source: str, name: str, query: Mapping[str, str]) -> web.Response:
        """objects.move."""
        return web.json_response(self.describe(bucket, name, self._state.move(bucket, source, name, query)))

    def compose(self, bucket: str, name: str, body: bytes, query: Mapping[str, str]) -> web.Response:
        """objects.compose."""
        content = json.loads(body)
        sources = content.get("sourceObjects", ())
        if not 1 <= len(sources) <= MAX_SOURCES:
            raise Refusal(400, "invalid", f"The number of source components must be between 1 and {MAX_SOURCES}.")
        data = b"".join(self._component(bucket, source) for source in sources)
        resource = content.get("destination") or {}
        made = self._state.store(bucket, name, data, resource, query, operation="objects.compose")
        described = self.describe(bucket, name, made)
        described.pop("md5Hash", None)  # a composed object has none
        return web.json_response(described)

    def _component(self, bucket: str, source: Mapping[str, Any]) -> bytes:
        conditions = source.get("objectPreconditions") or {}
        query = {name: str(value) for name, value in {**source, **conditions}.items() if name != "name"}
        return self._state.find(bucket, source["name"], query, operation="objects.compose").data

    async def rewrite(
        self, source: tuple[str, str], copy: tuple[str, str], body: bytes, query: Mapping[str, str]
    ) -> web.Response:
        """objects.rewrite."""
        found = self._state.find(*source, query, operation="objects.rewrite")
        self._state.check_conditions(self._state.objects(copy[0]).get(copy[1]), query, operation="objects.rewrite")
        await asyncio.sleep(self._state.profile.rewrite_seconds)  # also after the client has disconnected
        task = (source, copy, found.generation, body)
        token = query.get("rewriteToken")
        known, done = self._rewrites.pop(token, (None, 0)) if token else (task, 0)
        if known != task:
            raise Refusal(400, "invalid", "The rewrite token is invalid for this request.")
        size = len(found.data)
        done = min(done + self.bytes_per_rewrite, size)
        progress = {"kind": "storage#rewriteResponse", "totalBytesRewritten": str(done), "objectSize": str(size)}
        if done < size:
            token = secrets.token_urlsafe()
            self._rewrites[token] = (task, done)
            return web.json_response({**progress, "done": False, "rewriteToken": token})
        # Without a body the copy has the fields of its source, and the default storage class of its bucket.
        resource = json.loads(body) if body else {**found.resource, "storageClass": None}
        made = self._state.store(*copy, found.data, resource, query, operation="objects.rewrite")
        return web.json_response({**progress, "done": True, "resource": self.describe(*copy, made)})
