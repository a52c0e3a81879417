"""What a response of Cloud Storage must be to count as success. Everything that responses say is read here."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from lakery_cloud.engine.checksums import header_to_hex
from lakery_cloud.engine.cloud_transport import OpenBody
from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.lifecycle import BucketRules
from lakery_cloud.engine.model import Body, KeptVersion, ObjectInfo
from lakery_cloud.engine.requests import BodyChunks
from lakery_cloud.http.exchange import BufferedResponse, Origin, Response, UnsupportedResponse
from lakery_cloud.http.headers import read_content_range, required, size_of
from lakery_cloud.providers.gcs.errors import is_page

T = TypeVar("T")

TAG_PREFIX = "tag-"
"""Permanent: the names of tags in an object's metadata begin with it; no other name of ours does."""

_NUMBER = re.compile(r"[0-9]{1,20}")
_TARGET = re.compile(r"/[!-~]*")


class StoredObject(NamedTuple):
    """An object as the API describes it.

    Attributes:
        info: Its description for the engine.
        crc32c: CRC-32C of its bytes, in base64.
        tags: Its tags.
    """

    info: ObjectInfo
    crc32c: str | None
    tags: Mapping[str, str]


class Progress(NamedTuple):
    """A rewrite that needs another request.

    Attributes:
        token: What the next request continues with.
        size: Bytes that are rewritten.
    """

    token: str
    size: int


def read_json(read: Callable[[Mapping[str, Any]], T], response: BufferedResponse) -> T:
    """A response whose body is a JSON object.

    Args:
        read: Reads the object.
        response: The response.

    Raises:
        UnsupportedResponse: It is anything else, or lacks what the API promises.
    """
    try:
        content = json.loads(response.body.decode())
    except (ValueError, RecursionError) as error:
        _refuse_page(response)
        raise UnsupportedResponse("a response that is no JSON") from error
    if not isinstance(content, dict):
        raise UnsupportedResponse("a response that is no JSON object")
    return read(content)


def read_nothing(response: BufferedResponse) -> None:
    """A response that has no body. One with a body is not the store's."""
    if response.status < 300 and response.body:
        raise UnsupportedResponse(f"a response {response.status} with a body, where the API sends none")


def read_deletion(response: BufferedResponse) -> bool | None:
    """Whether the deleted object existed; None for a response with a body, as emulators and gateways send it."""
    _refuse_page(response)
    if response.status == 404:
        return False
    return None if response.body else True


def read_size(resource: Mapping[str, Any]) -> int:
    """The size of a new object. Its description has more, which would take time to read."""
    _number(resource, "generation")
    return int(_number(resource, "size"))


def read_object(address: Address, resource: Mapping[str, Any]) -> StoredObject:
    """The description of an object."""
    metadata = _mapping(resource, "metadata")
    if not all(isinstance(value, str) for value in metadata.values()):
        raise UnsupportedResponse("a response with malformed metadata")
    generation, checksums = _number(resource, "generation"), _checksums(resource)
    info = ObjectInfo(
        address,
        int(_number(resource, "size")),
        generation,
        f"md5:{checksums['md5']}" if "md5" in checksums else None,
        _text(resource, "contentType"),
        _text(resource, "contentEncoding"),
        _time(resource, "updated"),
        {name: value for name, value in metadata.items() if not name.startswith(TAG_PREFIX)},
        version_id=generation,
        storage_class=_text(resource, "storageClass") or None,
        checksums=checksums,
    )
    tags = {unquote(name[len(TAG_PREFIX) :]): metadata[name] for name in metadata if name.startswith(TAG_PREFIX)}
    return StoredObject(info, _text(resource, "crc32c"), tags)


def read_body(address: Address, response: Response) -> OpenBody:
    """The content of an object. The generation proves that it comes from the store."""
    headers = response.headers
    generation = required(headers, "x-goog-generation")
    content_range = headers.get("content-range")
    if response.status == 206 and content_range is None:  # some stores send a range with 200
        raise UnsupportedResponse("a response 206 without Content-Range")
    stored = headers.get("x-goog-stored-content-length", "")
    size = int(stored) if _NUMBER.fullmatch(stored) else size_of(headers)
    start, total = read_content_range(content_range, size=size)
    _check_length(headers, content_range, size=size, total=total)
    info = ObjectInfo(address, total, generation, None, headers.get("content-type"))
    return Body(info, BodyChunks(response.read), start), response.close


def _check_length(headers: Mapping[str, str], content_range: str | None, *, size: int, total: int) -> None:
    """Refuse a body whose length is not that of the object, or of its range: it is another body than the store's."""
    length = headers.get("content-length", "")
    if content_range:
        first, _, last = content_range.removeprefix("bytes ").partition("/")[0].partition("-")
        expected = int(last) - int(first) + 1
    else:
        expected = size
    if (_NUMBER.fullmatch(length) and int(length) != expected) or (
        "x-goog-stored-content-length" in headers and total != size
    ):
        raise UnsupportedResponse("a response with a body of another length")


def read_session(origin: Origin, path: str, response: BufferedResponse) -> str:
    """The URL of an upload session, at the storage's own host.

    A proxy or an emulator may name another host for it. The storage's own host serves it all the same, if the rest of the
    URL is that of an upload; nothing is ever sent to another host.

    Args:
        origin: Where requests go.
        path: Path of the request that began the upload.
        response: The response to it.
    """
    _refuse_page(response)
    location = required(response.headers, "location")
    found = None
    with suppress(ValueError):  # its text quotes the session
        parts, found = urlsplit(location), Origin.of(location)
        target = f"{parts.path}?{parts.query}"
    if found is None or parts.scheme not in ("http", "https") or not found.host or not _TARGET.fullmatch(target):
        raise UnsupportedResponse("a response with a malformed Location")
    if found[:3] == origin[:3]:
        return f"{origin.url}{target}"
    if not unquote(path).endswith(unquote(parts.path)) or "/upload/" not in parts.path:
        raise UnsupportedResponse("a response with a Location at another host")
    return f"{origin.url}{path}?{parts.query}"


def read_progress(address: Address, response: BufferedResponse) -> StoredObject | int:
    """The object of a complete upload, or how many bytes the store has."""
    if response.status != 308:
        return read_json(lambda resource: read_object(address, resource), response)
    if "location" in response.headers:
        raise UnsupportedResponse("a redirect")
    received = response.headers.get("range")
    if received is None:
        return 0
    last = received.removeprefix("bytes=0-")
    if not _NUMBER.fullmatch(last):
        raise UnsupportedResponse("a response with a malformed Range")
    return int(last) + 1


def read_rewrite(address: Address, progress: Mapping[str, Any]) -> ObjectInfo | Progress:
    """The copy, or what a further request continues with."""
    if progress.get("done") is True:
        return read_object(address, _mapping(progress, "resource")).info
    token = _required_text(progress, "rewriteToken")
    return Progress(token, int(_number(progress, "totalBytesRewritten")))


def read_page(bucket: str, page: Mapping[str, Any], *, described: bool = False) -> tuple[list[ObjectInfo], str | None]:
    """One page of a listing, with the tags if it was asked for all attributes, and the token of the next one."""
    if page.get("kind") != "storage#objects":  # all that an empty page has
        raise UnsupportedResponse("a response without kind")
    items = _mappings(page, "items")
    entries = [read_object(Address(bucket, _required_text(item, "name")), item) for item in items]
    infos = [entry.info._replace(tags=entry.tags) if described else entry.info for entry in entries]
    return infos, _text(page, "nextPageToken") or None


def read_versions(bucket: str, page: Mapping[str, Any]) -> tuple[list[KeptVersion], str | None]:
    """One page of a listing of generations, and the token of the next one."""
    entries, token = read_page(bucket, page)
    return [
        KeptVersion(entry.address, entry.size, entry.version, is_current="timeDeleted" not in item)
        for entry, item in zip(entries, _mappings(page, "items"), strict=True)
        if entry.version is not None
    ], token


def read_bucket(response: BufferedResponse) -> bool:
    """Whether a bucket exists."""
    _refuse_page(response)
    if response.status == 200:
        read_json(lambda bucket: _required_text(bucket, "name"), response)
    return response.status != 404  # 403 is an answer about an existing bucket


def read_rules(bucket: Mapping[str, Any]) -> BucketRules:
    """The lifecycle rules of a bucket, and its metageneration as their version."""
    rules = _mappings(_mapping(bucket, "lifecycle"), "rule")
    read = [{**rule, "condition": dict(_mapping(rule, "condition"))} for rule in rules]
    return BucketRules(read, read_metageneration(bucket))


DAY = 24 * 60 * 60


class BucketOptions(NamedTuple):
    """What a bucket keeps (Cloud Storage, "Options for controlling data lifecycles").

    Attributes:
        retention: What keeps objects from being deleted; empty if nothing does.
        kept: What the bucket keeps of deleted objects, a clause each.
    """

    retention: str
    kept: Sequence[str]


def read_options(bucket: Mapping[str, Any]) -> BucketOptions:
    """The options of a bucket that keep objects."""
    retention, kept = [], []
    if (seconds := _seconds(_mapping(bucket, "retentionPolicy"), "retentionPeriod")) > 0:
        retention.append(f"a retention policy of {_days(seconds)}")
    if bucket.get("defaultEventBasedHold") is True:
        retention.append("an event-based hold on each new object")
    if _mapping(bucket, "versioning").get("enabled") is True:
        kept.append("the bucket keeps versions, and temporary objects are deleted with theirs")
    if (seconds := _seconds(_mapping(bucket, "softDeletePolicy"), "retentionDurationSeconds")) > 0:
        kept.append(
            f"soft delete keeps deleted objects for {_days(seconds)}, and Google bills them, also temporary ones"
        )
    return BucketOptions(" and ".join(retention), kept)


def _days(seconds: int) -> str:
    return f"{seconds / DAY:.3g} {'day' if seconds == DAY else 'days'}"


def _seconds(resource: Mapping[str, Any], name: str) -> int:
    return int(_number(resource, name)) if name in resource else 0


def read_metageneration(bucket: Mapping[str, Any]) -> str:
    """The version of a bucket's fields."""
    return _number(bucket, "metageneration")


def _refuse_page(response: BufferedResponse) -> None:
    if is_page(response.body):
        raise UnsupportedResponse(f"a page of HTML with status {response.status}")


def _number(resource: Mapping[str, Any], name: str) -> str:
    """A whole number, which the API writes as text."""
    number = str(resource.get(name))
    if not _NUMBER.fullmatch(number):
        raise UnsupportedResponse(f"a response without {name}")
    return number


def _text(resource: Mapping[str, Any], name: str) -> str | None:
    value = resource.get(name)
    if value is None or isinstance(value, str):
        return value
    raise UnsupportedResponse(f"a response with a malformed {name}")


def _required_text(resource: Mapping[str, Any], name: str) -> str:
    if value := _text(resource, name):
        return value
    raise UnsupportedResponse(f"a response without {name}")


def _mapping(resource: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = resource.get(name)
    if value is None or isinstance(value, dict):
        return value or {}
    raise UnsupportedResponse(f"a response with a malformed {name}")


def _mappings(resource: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    value = resource.get(name)
    if value is None or (isinstance(value, list) and all(isinstance(each, dict) for each in value)):
        return value or []
    raise UnsupportedResponse(f"a response with malformed {name}")


_CHECKSUMS = {"md5": "md5Hash", "crc32c": "crc32c"}
"""Algorithm -> the field with its checksum. A composed object has no MD5."""


def _checksums(resource: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for algorithm, name in _CHECKSUMS.items():
        if text := _text(resource, name):
            try:
                found[algorithm] = header_to_hex(text)
            except ValueError as error:
                raise UnsupportedResponse(f"a response with a malformed {name}") from error
    return found


def _time(resource: Mapping[str, Any], name: str) -> datetime | None:
    text = _text(resource, name)
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise UnsupportedResponse(f"a response with a malformed {name}") from error
    if time.tzinfo is None:
        raise UnsupportedResponse(f"a response with a malformed {name}")
    return time
