"""Pages of listings that lakery-cloud reads itself say the same as to the SDK, or are refused."""

import base64
import random
import re
from collections.abc import AsyncIterator
from email.utils import formatdate
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape

import pytest

from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.http.exchange import BufferedResponse, UnsupportedResponse
from lakery_cloud.providers.azure.answers import listed_page
from lakery_cloud.testing import ScriptedProxy
from lakery_cloud.testing.faults import Answer
from tests.conftest import rig_on
from tests.helpers import scripted_proxy_before
from tests.rigs.azure import AzureRig
from tests.rigs.pairs import Pair

azure_rig = rig_on(Pair("azure-azurite", lambda server: AzureRig("Azurite", server, fast_lane=True), "azurite"))
HEADERS = {"x-ms-request-id": "1", "content-type": "application/xml"}
LETTERS = "abcXYZ09 -_.&<>\"'%+éß日"


@pytest.fixture
async def proxy(azure_rig: AzureRig) -> AsyncIterator[ScriptedProxy]:
    async with scripted_proxy_before(azure_rig) as proxy:
        yield proxy


def element(name: str, text: str | None) -> str:
    return "" if text is None else f"<{name}>{escape(text)}</{name}>"


def word(source: random.Random) -> str:
    return "".join(source.choices(LETTERS, k=source.randint(1, 12))).strip() or "x"


def blob_of(source: random.Random) -> str:
    """A blob as the service describes it, with what it may leave out."""

    def maybe(text: str) -> str | None:
        return text if source.random() < 0.7 else None

    name = word(source)
    is_encoded = source.random() < 0.3
    properties = [
        element("Creation-Time", formatdate(1, usegmt=True)),
        element("Last-Modified", formatdate(source.randrange(2**32), usegmt=True)),
        element("Etag", "0x8D" + source.randbytes(6).hex()),
        element("Content-Length", str(source.randrange(2**44))),
        element("Content-Type", maybe("text/plain")),
        element("Content-Encoding", maybe("gzip")),
        element("Content-MD5", maybe(base64.b64encode(source.randbytes(16)).decode())),
        "<Cache-Control/><BlobType>BlockBlob</BlobType>",
        element("AccessTier", maybe("Cool")),
        "<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState>",
        element("TagCount", maybe(str(source.randrange(1, 10)))),
    ]
    source.shuffle(properties)
    metadata = "".join(element(f"name_{number}", word(source)) for number in range(source.randrange(3)))
    if source.random() < 0.3:
        metadata += element("content_tags", '{"a": "b"}')
    tags = "".join(
        f"<Tag>{element('Key', word(source))}{element('Value', word(source))}</Tag>" for _ in range(source.randrange(3))
    )
    return (
        '<Blob><Name Encoded="true">' + escape(quote(name)) + "</Name>"
        if is_encoded
        else f"<Blob>{element('Name', name)}"
    ) + (
        (element("VersionId", maybe("2026-11-27T10:00:00.0000000Z")) or "")
        + f"<Properties>{''.join(properties)}</Properties>"
        + (f"<Metadata>{metadata}</Metadata>" if metadata else "<Metadata />")
        + (f"<Tags><TagSet>{tags}</TagSet></Tags>" if tags else "")
        + "<OrMetadata /></Blob>"
    )


def page_of(*blobs: str, marker: str = "") -> str:
    folder = "<BlobPrefix><Name>a/</Name></BlobPrefix>"
    return (
        '\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="http://localhost/" '
        f'ContainerName="c"><Prefix></Prefix><Delimiter>/</Delimiter><Blobs>{folder.join(["", *blobs])}</Blobs>'
        f"<NextMarker>{marker}</NextMarker></EnumerationResults>"
    )


async def listed(rig: AzureRig, *, fast_lane: bool, blob_tags: bool, described: bool) -> list[ObjectInfo]:
    async with rig.storage(fast_lane=fast_lane, blob_tags=blob_tags) as storage:
        transport = await storage.transport()
        found = transport.list_described(rig.bucket, "") if described else transport.list(rig.bucket, "")
        return [info async for info in found]


@pytest.mark.parametrize("blob_tags", [True, False], ids=["index tags", "tags in metadata"])
@pytest.mark.parametrize("described", [True, False], ids=["described", "plain"])
async def test_pages_say_the_same_as_to_the_sdk(
    azure_rig: AzureRig, proxy: ScriptedProxy, described: bool, blob_tags: bool
) -> None:
    source = random.Random(15)
    pages = [[blob_of(source) for _ in range(source.randrange(5))] for _ in range(20)]
    seen = []
    for fast_lane in (True, False):
        for number, blobs in enumerate(pages):
            marker = f"{number + 1}!a b" if number + 1 < len(pages) else ""
            body = page_of(*blobs, marker=marker)
            proxy.script(lambda exchange: "comp=list" in exchange.target, Answer(200, headers=HEADERS, body=body))
        found = await listed(azure_rig, fast_lane=fast_lane, blob_tags=blob_tags, described=described)
        assert len(found) == sum(map(len, pages))
        seen.append((found, [dict(parse_qsl(exchange.target.split("?")[1])) for exchange in proxy.exchanges]))
        proxy.exchanges.clear()
    assert seen[0] == seen[1]


BLOB = (
    "<Blob><Name>ab</Name><Properties><Last-Modified>Fri, 27 Nov 2026 10:00:00 GMT</Last-Modified><Etag>0x8D</Etag>"
    "<Content-Length>5</Content-Length></Properties></Blob>"
)


def read(body: str) -> tuple[list[ObjectInfo], str | None]:
    return listed_page("c", BufferedResponse(200, {"x-ms-request-id": "1"}, body.encode()), has_tags=False)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"</EnumerationResults>", "", "no XML"),
        (r"EnumerationResults", "Error", "without EnumerationResults"),
        (r"(?s).*", "<html><body>Sign in</body></html>", "without EnumerationResults"),
        (r"(?s).*", "", "without EnumerationResults"),
        (
            r"<EnumerationResults",
            "<!DOCTYPE x [<!ENTITY a 'b'>]><EnumerationResults",
            "without EnumerationResults|type",
        ),
        (r"<NextMarker></NextMarker>", "", "without Blobs or NextMarker"),
        (r"<NextMarker>", "<NextMarker>a</NextMarker><NextMarker>", "malformed NextMarker"),
        (r"<Blobs>.*</Blobs>", "", "without Blobs or NextMarker"),
        (r"<Name>ab</Name>", "", "without the name"),
        (r"<Name>ab</Name>", "<Name/>", "without the name"),
        (r"<Name>ab</Name>", "<Name>ab</Name><Name>cd</Name>", "malformed Name"),
        (r"<Etag>0x8D</Etag>", "", "without the name, the ETag"),
        (r"<Content-Length>5</Content-Length>", "", "or the size"),
        (r"<Content-Length>5", "<Content-Length>-5", "or the size"),
        (r"<Content-Length>5", f"<Content-Length>{'9' * 5000}", "or the size"),
        (r"<Content-Length>5", "<Content-Length>5</Content-Length><Content-Length>6", "malformed Content-Length"),
        (r"<Last-Modified>[^<]*</Last-Modified>", "", "without the time"),
        (r"<Last-Modified>[^<]*", "<Last-Modified>yesterday", "without the time"),
        (r"<Properties>.*</Properties>", "", "without the name, the ETag"),
    ],
)
def test_anything_else_is_refused(pattern: str, replacement: str, message: str) -> None:
    body = page_of(BLOB)
    assert [info.address.key for info in read(body)[0]] == ["ab"]
    changed = re.sub(pattern, replacement, body, count=0 if pattern == "EnumerationResults" else 1)
    assert changed != body
    with pytest.raises(UnsupportedResponse, match=message):
        read(changed)
