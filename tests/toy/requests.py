"""The requests of the toy store, signed and sent by lakery-cloud."""

import hashlib
import json
import os
from typing import Any
from urllib.parse import quote, urlencode

from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.cloud_transport import OpenBody
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import Body, ObjectInfo, Receipt, Upload, without_none
from lakery_cloud.engine.requests import BodyChunks, Requests
from lakery_cloud.http.client import HTTPClient
from lakery_cloud.http.exchange import BufferedResponse, Origin, Request, Response, UnsupportedResponse
from lakery_cloud.http.headers import byte_range, required
from lakery_cloud.streams.parts import Part
from tests.toy.errors import RULES, code_of
from tests.toy.settings import ToySettings


class ToyRequests(Requests):
    """All requests of the store."""

    def __init__(self, http: HTTPClient, settings: ToySettings) -> None:
        assert settings.endpoint_url is not None
        super().__init__(endpoint=settings.endpoint_url, max_attempts=settings.max_attempts)
        self._http = http
        self._origin = Origin.of(settings.endpoint_url)
        self._token = settings.token or os.environ.get("TOY_TOKEN", "")

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        headers = {"if-none-match": "*", "x-attributes": described(attributes), "x-sha256": _sha256(data)}
        await self.send("put", address, _request("PUT", address, headers, body=(data,)), _etag, expected=(201,))

    async def head(self, address: Address) -> ObjectInfo:
        request = _request("HEAD", address, {})
        return await self.send("head", address, request, lambda response: _info(address, response), expected=(200,))

    async def open(self, address: Address, start: int, stop: int | None, version: str | None) -> OpenBody:
        headers = without_none(**{"range": byte_range(start, stop), "if-match": version})
        request = _request("GET", address, headers)

        def read(response: Response) -> OpenBody:
            first = int(required(response.headers, "x-start"))
            return Body(_info(address, response), BodyChunks(response.read), first), response.close

        return await self.open_body("get", address, request, read, expected=(200,))

    async def part(self, upload: Upload, part: Part) -> Receipt:
        query = {"upload": upload.id, "part": str(part.number)}
        request = _request("PUT", upload.address, {"x-sha256": _sha256(*part.pieces)}, query=query, body=part.pieces)
        return Receipt(part.number, await self.send("part", upload.address, request, _etag, expected=(201,)))

    async def call(
        self, operation: str, address: Address, method: str, *, query: dict[str, str] | None = None, **body: Any
    ) -> Any:
        """Any other request, with a body of JSON, and a response of JSON or nothing."""
        headers = {"if-none-match": "*"} if body.pop("create_only", False) else {}
        content = (json.dumps(body["json"]).encode(),) if body else ()
        request = _request(method, address, headers, query=query or {}, body=content)
        return await self.send(
            operation, address, request, lambda response: _json(response.body), expected=(200, 201, 204)
        )

    async def _exchange(self, address: Address, request: Request) -> Response:
        headers = {"host": self._origin.netloc, "authorization": f"Token {self._token}", **request.headers}
        return await self._http.send(self._origin, Request(request.method, request.target, headers, request.body))

    def _refused(self, response: BufferedResponse, operation: str, address: Address) -> Exception:
        code = code_of(response)
        failure = self.failure(operation, address, f"the toy store answered {response.status} {code}")
        return RULES.error(failure, code=code, status=response.status)


def described(attributes: ObjectAttributes) -> str:
    """An object's attributes as the store keeps them."""
    return json.dumps(
        {
            "content_type": attributes.content_type,
            "content_encoding": attributes.content_encoding,
            "tags": dict(attributes.tags),
            "metadata": dict(attributes.metadata),
        }
    )


def _request(
    method: str,
    address: Address,
    headers: dict[str, str],
    *,
    query: dict[str, str] | None = None,
    body: tuple[bytes, ...] = (),
) -> Request:
    target = f"/{quote(address.bucket)}/{quote(address.key)}"
    return Request(method, f"{target}?{urlencode(query)}" if query else target, headers, body)


def _sha256(*pieces: bytes) -> str:
    return hashlib.sha256(b"".join(pieces)).hexdigest()


def _etag(response: BufferedResponse) -> str:
    return required(response.headers, "etag")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body) if body else {}
    except ValueError as error:
        raise UnsupportedResponse("a response that is no JSON") from error


def _info(address: Address, response: Response | BufferedResponse) -> ObjectInfo:
    headers = response.headers
    found = json.loads(required(headers, "x-attributes"))
    return ObjectInfo(
        address,
        int(required(headers, "x-size")),
        required(headers, "etag"),
        content_type=found["content_type"],
        content_encoding=found["content_encoding"],
        metadata=found["metadata"],
    )
