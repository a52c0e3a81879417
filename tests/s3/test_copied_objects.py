"""Which responses to CopyObject prove a copy, when lakery-cloud reads them itself."""

import pytest

from lakery_cloud.engine.keys import Address
from lakery_cloud.engine.model import ObjectInfo
from lakery_cloud.http.exchange import BufferedResponse, UnsupportedResponse
from lakery_cloud.providers.s3.answers import copied_object

SOURCE, COPY = ObjectInfo(Address("bucket", "from"), 4, '"1"'), Address("bucket", "to")
HASH = "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0="
RESULT = f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;2&quot;</ETag><ChecksumSHA256>{HASH}</ChecksumSHA256>"


def read(body: str) -> ObjectInfo:
    return copied_object(SOURCE, COPY, BufferedResponse(200, {"x-amz-version-id": "7"}, body.encode()))


@pytest.mark.parametrize(
    "body",
    [
        f"<CopyObjectResult>{RESULT}</CopyObjectResult>",
        (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<CopyObjectResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{RESULT}'
            "</CopyObjectResult>"
        ),
        f"   \n  <CopyObjectResult>{RESULT}</CopyObjectResult>",
    ],
)
def test_a_result_is_read(body: str) -> None:
    made = read(body)
    assert (made.address, made.size, made.version, made.version_id) == (COPY, 4, '"2"', "7")
    assert made.content_hash == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize(
    ("body", "saying"),
    [
        ("<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>", "SlowDown"),
        ("", "another content"),
        ("<html>welcome</html>", "another content"),
        ("<CopyObjectResult></CopyObjectResult>", "ETag"),
        ("<CopyObjectResult><ETag></ETag></CopyObjectResult>", "ETag"),
        (f"<CopyPartResult>{RESULT}</CopyPartResult>", "another content"),
        ("<CopyObjectResult><ETag>1</ETag><ChecksumSHA256>?</ChecksumSHA256></CopyObjectResult>", "sha256"),
    ],
)
def test_anything_else_is_refused(body: str, saying: str) -> None:
    with pytest.raises(UnsupportedResponse, match=saying):
        read(body)
