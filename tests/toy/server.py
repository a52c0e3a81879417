"""The toy store: objects, uploads and copies over HTTP, with create-only writes and tokens. It keeps everything in memory."""

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from lakery_cloud.streams.hashing import new_hasher
from lakery_cloud.testing.doubles.server import DoubleServer

TOKEN = "toy-token"


@dataclass
class ToyObject:
    data: bytes
    attributes: dict[str, Any]
    version: str


@dataclass
class ToyUpload:
    key: str
    attributes: dict[str, Any]
    parts: dict[int, bytes] = field(default_factory=dict)


class Refusal(Exception):
    """A response with a code of the store."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status


class ToyServer(DoubleServer):
    """The store, on a free port of 127.0.0.1, with one bucket."""

    def __init__(self, bucket: str) -> None:
        super().__init__()
        self.bucket = bucket
        self.objects: dict[str, ToyObject] = {}
        self.open_uploads: dict[str, ToyUpload] = {}
        self._numbers = itertools.count(1)

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            if request.headers.get("authorization") != f"Token {TOKEN}":
                raise Refusal(401, "WrongToken")
            bucket, _, key = request.match_info["path"].partition("/")
            if bucket != self.bucket:
                raise Refusal(404, "NoBucket")
            return await self._answer(request, key, await request.read())
        except Refusal as refusal:
            return web.json_response({"code": str(refusal)}, status=refusal.status)

    async def _answer(self, request: web.Request, key: str, body: bytes) -> web.Response:
        query = request.query
        if not key:
            return self._listing(query)
        if "upload" in query:
            return self._on_upload(request, query["upload"], key, body)
        if request.method == "POST" and "begin" in query:
            upload_id = str(next(self._numbers))
            self.open_uploads[upload_id] = ToyUpload(key, json.loads(body))
            return web.json_response({"id": upload_id})
        if request.method == "POST":
            wanted = json.loads(body)
            source = self._find(wanted["source"], wanted["version"])
            return self._create(request, key, source.data, wanted["attributes"])
        if request.method == "PUT":
            self._check(request, body)
            return self._create(request, key, body, json.loads(request.headers["x-attributes"]))
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return web.Response(status=204)
        found = self._find(key, request.headers.get("if-match"))
        return web.json_response(found.attributes) if "attributes" in query else self._read(request, found)

    def _listing(self, query: Any) -> web.Response:
        prefix = query.get("prefix", "")
        objects = [
            {"key": key, "size": len(found.data), "version": found.version}
            for key, found in self.objects.items()
            if key.startswith(prefix) and "/" not in key.removeprefix(prefix)
        ]
        uploads = [
            {"key": upload.key, "id": upload_id}
            for upload_id, upload in self.open_uploads.items()
            if upload.key.startswith(prefix)
        ]
        return web.json_response({"objects": objects, "uploads": uploads})

    def _on_upload(self, request: web.Request, upload_id: str, key: str, body: bytes) -> web.Response:
        if upload_id not in self.open_uploads:
            raise Refusal(404, "NoUpload")
        upload = self.open_uploads[upload_id]
        if request.method == "PUT":
            self._check(request, body)
            upload.parts[int(request.query["part"])] = body
            return web.Response(status=201, headers={"etag": request.query["part"]})
        if request.method == "POST":
            data = b"".join(upload.parts[number] for number in json.loads(body))
            made = self._create(request, key, data, upload.attributes)
            del self.open_uploads[upload_id]
            return made
        del self.open_uploads[upload_id]
        return web.Response(status=204)

    def _create(self, request: web.Request, key: str, data: bytes, attributes: dict[str, Any]) -> web.Response:
        if request.headers.get("if-none-match") == "*" and key in self.objects:
            raise Refusal(412, "KeyExists")
        self.objects[key] = ToyObject(data, attributes, str(next(self._numbers)))
        return web.Response(status=201, headers={"etag": self.objects[key].version})

    def _find(self, key: str, version: str | None) -> ToyObject:
        found = self.objects.get(key)
        if found is None:
            raise Refusal(404, "NoKey")
        if version not in (None, found.version):
            raise Refusal(412, "OtherVersion")
        return found

    def _check(self, request: web.Request, body: bytes) -> None:
        hasher = new_hasher("sha256")
        hasher.update(body)
        if request.headers["x-sha256"] != hasher.hexdigest():
            raise Refusal(400, "WrongChecksum")

    def _read(self, request: web.Request, found: ToyObject) -> web.Response:
        headers = {"etag": found.version, "x-attributes": json.dumps(found.attributes), "x-size": str(len(found.data))}
        wanted = request.http_range if "range" in request.headers else slice(None)
        data = found.data[wanted.start : wanted.stop]
        return web.Response(body=data, headers={**headers, "x-start": str(wanted.start or 0)})
