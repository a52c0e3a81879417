"""The requests of a double of S3 for buckets: listings, lifecycle rules, deletion of several objects."""

import base64
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from datetime import datetime
from urllib.parse import quote
from xml.sax.saxutils import escape

from aiohttp import web

from lakery_cloud.testing.doubles.s3_checks import S3Checks
from lakery_cloud.testing.doubles.s3_state import Refusal, S3State

MAX_DELETES = 1000
"""S3 API Reference, "DeleteObjects"."""


class BucketRequests:
    """Answers requests for buckets.

    Attributes:
        page_size: Most entries of one page of a listing.
    """

    def __init__(self, state: S3State, checks: S3Checks) -> None:
        self._state = state
        self._checks = checks
        self.page_size = 1000

    def list(self, bucket: str, query: Mapping[str, str]) -> web.Response:
        """ListObjectsV2."""
        prefix, encode = query.get("prefix", ""), query.get("encoding-type") == "url"
        after = base64.urlsafe_b64decode(query.get("continuation-token", "")).decode()
        entries: dict[str, str] = {}
        for key in sorted(self._state.buckets[bucket], key=str.encode):
            version = self._state.current(bucket, key)
            if version is None or version.data is None or not key.startswith(prefix):
                continue
            name, slash, _ = key.removeprefix(prefix).partition("/")
            if slash and query.get("delimiter"):
                folder = f"{prefix}{name}/"
                entries[folder] = f"<CommonPrefixes><Prefix>{_shown(folder, encode)}</Prefix></CommonPrefixes>"
                continue
            entries[key] = (
                f"<Contents><Key>{_shown(key, encode)}</Key><Size>{len(version.data)}</Size>"
                f"<ETag>{escape(version.etag)}</ETag><LastModified>{time_of(version.modified)}</LastModified>"
                f"<StorageClass>{escape(version.headers.get('x-amz-storage-class', 'STANDARD'))}</StorageClass></Contents>"
            )
        names = [name for name in entries if name.encode() > after.encode() or self._state.profile.tokens == "same"]
        limit = min(self.page_size, int(query.get("max-keys", self.page_size)))
        shown = "".join(entries[name] for name in names[:limit])
        is_truncated = len(names) > limit
        token = self._token(names[limit - 1]) if is_truncated else ""
        encoding = "<EncodingType>url</EncodingType>" if encode else ""
        return xml("ListBucketResult", f"{_truncated(is_truncated)}{encoding}{token}{shown}")

    def _token(self, last: str) -> str:
        if self._state.profile.tokens == "none":
            return ""
        token = base64.urlsafe_b64encode(last.encode()).decode()
        return f"<NextContinuationToken>{token}</NextContinuationToken>"

    def list_uploads(self, bucket: str, query: Mapping[str, str]) -> web.Response:
        """ListMultipartUploads."""
        prefix, encode = query.get("prefix", ""), query.get("encoding-type") == "url"
        marker = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
        found = sorted(
            (upload.key, upload_id, upload)
            for upload_id, upload in self._state.uploads[bucket].items()
            if upload.made is None and upload.key.startswith(prefix) and (upload.key, upload_id) > marker
        )
        page = found[: self.page_size]
        shown = "".join(
            f"<Upload><Key>{_shown(key, encode)}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{time_of(upload.begun)}</Initiated></Upload>"
            for key, upload_id, upload in page
        )
        next_marker = ""
        if len(found) > len(page):
            key, upload_id, _ = page[-1]
            next_marker = f"<NextKeyMarker>{_shown(key, encode)}</NextKeyMarker>"
            next_marker += f"<NextUploadIdMarker>{upload_id}</NextUploadIdMarker>"
        encoding = "<EncodingType>url</EncodingType>" if encode else ""
        return xml("ListMultipartUploadsResult", f"{_truncated(len(found) > len(page))}{encoding}{next_marker}{shown}")

    def list_versions(self, bucket: str, query: Mapping[str, str]) -> web.Response:
        """ListObjectVersions. Folders are left out: nobody reads them."""
        prefix, encode = query.get("prefix", ""), query.get("encoding-type") == "url"
        marker = (query.get("key-marker", ""), query.get("version-id-marker", ""))
        is_versioned = self._state.profile_of(bucket).versioned
        found: list[tuple[str, str, str]] = []
        for key, versions in self._state.buckets[bucket].items():
            is_below = "/" in key.removeprefix(prefix) and "delimiter" in query
            for version in versions if key.startswith(prefix) and not is_below else ():
                name = "Version" if version.data is not None else "DeleteMarker"
                size = f"<Size>{len(version.data)}</Size>" if version.data is not None else ""
                version_id = version.version_id if is_versioned else "null"
                latest = str(version is versions[-1]).lower()
                shown = (
                    f"<{name}><Key>{_shown(key, encode)}</Key><VersionId>{version_id}</VersionId>{size}"
                    f"<IsLatest>{latest}</IsLatest><LastModified>{time_of(version.modified)}</LastModified></{name}>"
                )
                found.append((key, version_id, shown))
        found = sorted(each for each in found if each[:2] > marker)
        page, next_marker = found[: self.page_size], ""
        if len(found) > len(page):
            key, version_id, _ = page[-1]
            next_marker = f"<NextKeyMarker>{_shown(key, encode)}</NextKeyMarker>"
            next_marker += f"<NextVersionIdMarker>{version_id}</NextVersionIdMarker>"
        encoding = "<EncodingType>url</EncodingType>" if encode else ""
        shown = "".join(each for *_, each in page)
        return xml("ListVersionsResult", f"{_truncated(len(found) > len(page))}{encoding}{next_marker}{shown}")

    def delete_many(self, request: web.Request, bucket: str, body: bytes) -> web.Response:
        """DeleteObjects."""
        self._checks.check_has_checksum(request, md5=True)
        self._checks.check_body(request, body)
        wanted = _listed(body, "Object")
        if not 0 < len(wanted) <= MAX_DELETES:
            raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed")
        errors = ""
        for each in wanted:
            try:
                current = self._state.current(bucket, each["Key"])
                if current is not None and each.get("ETag", current.etag) != current.etag:
                    raise Refusal(
                        412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold"
                    )
                self._state.delete(bucket, each["Key"], each.get("VersionId"))
            except Refusal as refusal:
                errors += f"<Error><Key>{escape(each['Key'])}</Key><Code>{refusal.code}</Code></Error>"
        return xml("DeleteResult", errors)

    def get_lifecycle(self, bucket: str) -> web.Response:
        """GetBucketLifecycleConfiguration."""
        if bucket not in self._state.lifecycle:
            raise Refusal(404, "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist")
        return web.Response(body=self._state.lifecycle[bucket], content_type="application/xml")

    def put_lifecycle(self, request: web.Request, bucket: str, body: bytes) -> web.Response:
        """PutBucketLifecycleConfiguration."""
        self._checks.check_has_checksum(request, md5=True)
        self._checks.check_body(request, body)
        if not list(_texts(body, "Status")):
            raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed")
        self._state.lifecycle[bucket] = body
        return web.Response()


def xml(root: str, content: str) -> web.Response:
    """A response in XML."""
    return web.Response(body=f"<{root}>{content}</{root}>".encode(), content_type="application/xml")


def time_of(moment: datetime) -> str:
    """A time as in listings."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _listed(body: bytes, name: str) -> list[dict[str, str]]:
    """The texts in each of the elements with a name."""
    elements = [element for element in _elements(body) if element.tag.rpartition("}")[2] == name]
    return [{field.tag.rpartition("}")[2]: field.text or "" for field in element} for element in elements]


def _texts(body: bytes, name: str) -> Iterable[str]:
    """The texts of the elements with a name."""
    return (element.text or "" for element in _elements(body) if element.tag.rpartition("}")[2] == name)


def _elements(body: bytes) -> Iterable[ET.Element]:
    try:
        root = ET.fromstring(body)  # noqa: S314, the tests' own
    except ET.ParseError as error:
        raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed") from error
    return root.iter()


def _shown(key: str, encode: bool) -> str:
    return quote(key) if encode else escape(key)


def _truncated(is_truncated: bool) -> str:
    return f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
