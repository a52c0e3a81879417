"""Pages of listings that lakery-cloud reads itself say the same as to the SDK, or are refused."""

import re
from datetime import UTC, datetime
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import botocore.loaders
import pytest
from botocore.handlers import decode_list_object_v2
from botocore.model import ServiceModel
from botocore.parsers import RestXMLParser
from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud.http.exchange import BufferedResponse, UnsupportedResponse
from lakery_cloud.providers.s3.answers import listed_objects, listed_page

NAMESPACE = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
MODEL = ServiceModel(botocore.loaders.create_loader().load_service_model("s3", "service-2"), "s3")
SHAPE = MODEL.operation_model("ListObjectsV2").output_shape

KEYS = st.text(st.characters(exclude_categories=["Cs"], min_codepoint=1), min_size=1, max_size=20)
WORDS = st.text("abcXYZ&<>\"' 09-_+/=", min_size=1, max_size=20).map(str.strip).filter(bool)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001, with one
ENTRIES = st.tuples(KEYS, st.integers(0, 2**43), TIMES, st.none() | WORDS, st.none() | WORDS)


def page_of(entries, *, namespace=NAMESPACE, token=None, about="<Name>bucket</Name>", encoding="url"):
    def element(name, text):
        return "" if text is None else f"<{name}>{escape(text)}</{name}>"

    contents = "".join(
        "<Contents>"
        + element("Key", quote_plus(key) if encoding else key)
        + element("LastModified", time.isoformat(timespec="milliseconds").replace("+00:00", "Z"))
        + element("ETag", etag)
        + "<ChecksumAlgorithm>CRC32C</ChecksumAlgorithm><ChecksumAlgorithm>SHA256</ChecksumAlgorithm>"
        + element("Size", str(size))
        + element("StorageClass", storage_class)
        + "<Owner><ID>1</ID></Owner></Contents>"
        for key, size, time, etag, storage_class in entries
    )
    rest = element("EncodingType", encoding) + element("IsTruncated", str(token is not None).lower())
    return (
        f'\n <?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult{namespace}>{about}{rest}'
        f"{element('NextContinuationToken', token)}{contents}"
        "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"
        "</ListBucketResult>"
    )


def read(body):
    return listed_page("bucket", BufferedResponse(200, {}, body.encode()))


def read_by_sdk(body):
    page = RestXMLParser().parse({"status_code": 200, "headers": {}, "body": body.strip().encode()}, SHAPE)
    decode_list_object_v2(page, {"encoding_type_auto_set": True})
    return listed_objects("bucket", page)


@given(st.lists(ENTRIES, max_size=4), st.none() | WORDS, st.sampled_from([NAMESPACE, "", ' xmlns="urn:other"']))
def test_a_page_says_the_same_as_to_the_sdk(entries, token, namespace):
    entries = [(key, size, time.replace(microsecond=0), etag, kind) for key, size, time, etag, kind in entries]
    body = page_of(entries, namespace=namespace, token=token)
    found, following = read(body)
    assert (found, following) == read_by_sdk(body)
    assert [(info.address.key, info.size, info.modified) for info in found] == [entry[:3] for entry in entries]
    assert following == token


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_document_type_is_found_in_no_other_encoding(encoding):
    body = page_of([ENTRY]).strip().replace("UTF-8", encoding)
    changed = body.replace("<ListBucketResult", "<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult", 1)
    for each in (body, changed):
        with pytest.raises(UnsupportedResponse, match="without ListBucketResult"):
            listed_page("bucket", BufferedResponse(200, {}, each.encode(encoding)))


ENTRY = ("ab", 5, datetime(2026, 11, 27, tzinfo=UTC), '"e"', "STANDARD")


def test_keys_that_are_not_encoded_stay_as_they_are():
    found, _ = read(page_of([("a%2Bb+c", *ENTRY[1:])], encoding=None))
    assert found[0].address.key == "a%2Bb+c"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-27T00:00:00Z", ENTRY[2]),
        ("2026-11-27T01:00:00.000+01:00", ENTRY[2]),
        ("2026-11-27T00:00:00", ENTRY[2]),
        ("2026-11-27T00:00:00.123456789Z", ENTRY[2].replace(microsecond=123456)),
    ],
)
def test_times_of_other_stores(text, moment):
    body = re.sub(r"<LastModified>[^<]*", f"<LastModified>{text}", page_of([ENTRY]))
    assert read(body)[0][0].modified == moment


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        (r"</ListBucketResult>", "", "no XML"),
        (r"ListBucketResult", "ListAllMyBucketsResult", "without ListBucketResult"),
        (r"(?s).*", "<Error><Code>InternalError</Code></Error>", "without ListBucketResult"),
        (r"(?s).*", "<html><body>Sign in</body></html>", "without ListBucketResult"),
        (r"(?s).*", "", "without ListBucketResult"),
        (r"<Name>.*<IsTruncated>false</IsTruncated>", "", "without the bucket's name"),
        (r"<ListBucketResult", "<!DOCTYPE x [<!ENTITY a 'b'>]><ListBucketResult", "document type"),
        (r"<Key>ab</Key>", "", "without Key"),
        (r"<Key>ab</Key>", "<Key/>", "without Key"),
        (r"<Key>ab</Key>", "<Key>ab</Key><Key>cd</Key>", "malformed Key"),
        (r"<Size>5</Size>", "", "without Size"),
        (r"<Size>5</Size>", "<Size>-5</Size>", "malformed Size"),
        (r"<Size>5</Size>", "<Size>5.0</Size>", "malformed Size"),
        (r"<Size>5</Size>", f"<Size>{'9' * 5000}</Size>", "malformed Size"),
        (r"<Size>5</Size>", "<Size>5</Size><Size>6</Size>", "malformed Size"),
        (r"<LastModified>[^<]*</LastModified>", "", "without LastModified"),
        (r"<LastModified>[^<]*", "<LastModified>yesterday", "malformed LastModified"),
        (r"<IsTruncated>false", "<IsTruncated>maybe", "malformed IsTruncated"),
        (r"<IsTruncated>false", "<IsTruncated>true", "without NextContinuationToken"),
        (r"<Contents>.*</Contents>", "<Contents/>", "without Size"),
    ],
)
def test_anything_else_is_refused(pattern, replacement, message):
    body = page_of([ENTRY])
    assert read(body)[0]
    changed = re.sub(pattern, replacement, body, count=0 if "Result" in pattern else 1)
    assert changed != body
    with pytest.raises(UnsupportedResponse, match=message):
        read(changed)
