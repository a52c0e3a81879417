"""Our signatures beside those of botocore and azure-storage-blob, for generated requests of the kinds that we sign.

The SDKs themselves sign the URLs of all clouds, and Google's library all of Cloud Storage.
"""

import base64
import hashlib
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from azure.core.pipeline.transport import HttpRequest
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy
from hypothesis import given
from hypothesis import strategies as st

from lakery_cloud import AzureBlobStorage
from lakery_cloud.engine.attributes import ObjectAttributes
from lakery_cloud.engine.secret_key import SecretKey
from lakery_cloud.http.headers import http_date
from lakery_cloud.providers.azure import metadata as azure
from lakery_cloud.providers.azure import signing as shared_key
from lakery_cloud.providers.s3.signing import UNSIGNED, authorization, encode_path, encode_query, signing_key
from tests.attack.cases import cases, counted

texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=30)
keys = st.one_of(
    texts,
    st.lists(texts, min_size=1, max_size=4).map("/".join),
    st.text("abAB09/~!$&'()*+,;=:@%#?[]{}|^`\"<>\\ _-.é\U0001f600", min_size=1, max_size=30),
).filter(lambda key: not {".", ".."} & set(key.split("/")) and not key.startswith("/"))
ascii_texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
values = ascii_texts.filter(lambda value: value.strip() == value and value != "")
tags = st.text("abcXYZ019 +-./:=_", min_size=1, max_size=20)
credentials = st.tuples(st.text("ABC019", min_size=16, max_size=20), st.text("abcXYZ019+/", min_size=1, max_size=40))
buckets = st.from_regex(r"[a-z0-9][a-z0-9-]{1,20}[a-z0-9]", fullmatch=True)


# S3.

REGIONS = ("us-east-1", "eu-central-1", "auto", "garage")


@st.composite
def s3_calls(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A call of the SDK that has a hot request of ours."""
    target = {"Bucket": draw(buckets), "Key": draw(keys)}
    operation = draw(st.sampled_from(["put_object", "get_object", "head_object", "upload_part"]))
    options: dict[str, Any] = {}
    if operation == "put_object":
        options = draw(
            st.fixed_dictionaries(
                {"Body": st.binary(max_size=20)},
                optional={
                    "ContentType": values,
                    "ContentEncoding": values,
                    "Metadata": st.dictionaries(
                        st.from_regex("[a-z][a-z0-9-]{0,9}", fullmatch=True), values, max_size=3
                    ),
                    "Tagging": st.dictionaries(tags, tags, max_size=3).map(encode_query),
                    "IfNoneMatch": st.just("*"),
                    "ChecksumSHA256": st.just(base64.b64encode(bytes(32)).decode()),
                    "ServerSideEncryption": st.just("aws:kms"),
                    "SSEKMSKeyId": values,
                    "StorageClass": st.just("STANDARD_IA"),
                    "RequestPayer": st.just("requester"),
                },
            )
        )
    elif operation == "get_object":
        options = draw(st.fixed_dictionaries({}, optional={"Range": st.just("bytes=1-5"), "IfMatch": values}))
    elif operation == "upload_part":
        options = {
            "PartNumber": draw(st.integers(1, 10_000)),
            "UploadId": draw(texts),
            "Body": draw(st.binary(max_size=20)),
        }
    return operation, {**target, **options}


class _Answer:
    async def read(self) -> bytes:
        return b""


async def signed_by_botocore(
    calls: list[tuple[str, dict[str, Any]]], *, key: tuple[str, str], token: str | None, region: str, signs_body: bool
) -> list[Any]:
    """The requests that the SDK would send."""
    session, sent = AioSession(), []
    session.set_credentials(*key, token)

    def note(request: Any, **_: Any) -> AioAWSResponse:
        sent.append(request)
        return AioAWSResponse(request.url, 200, {}, _Answer())

    config = AioConfig(
        s3={"addressing_style": "path", "payload_signing_enabled": signs_body},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    async with session.create_client(
        "s3", region_name=region, endpoint_url="https://s3.example.com:9000", config=config
    ) as client:
        client.meta.events.register("before-send.s3", note)
        for operation, parameters in calls:
            await getattr(client, operation)(**parameters)
    return sent


@cases(3)
@given(
    calls=st.lists(s3_calls(), min_size=20, max_size=20),
    key=credentials,
    token=st.none() | values,
    region=st.sampled_from(REGIONS),
    signs_body=st.booleans(),
)
async def test_s3_requests_are_signed_as_botocore_signs_them(
    calls: list[tuple[str, dict[str, Any]]], key: tuple[str, str], token: str | None, region: str, signs_body: bool
) -> None:
    sent = await signed_by_botocore(calls, key=key, token=token, region=region, signs_body=signs_body)
    assert len(sent) == len(calls)
    for request, (_, parameters) in zip(sent, calls, strict=True):
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        expected = headers["authorization"]
        url = urlsplit(request.url)
        path = f"/{parameters['Bucket']}/{encode_path(parameters['Key'])}"
        assert url.path == path
        names = expected.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        body = parameters.get("Body", b"")
        payload_hash = hashlib.sha256(body).hexdigest() if signs_body else UNSIGNED
        if headers["x-amz-content-sha256"] == UNSIGNED:
            payload_hash = UNSIGNED
        time = headers["x-amz-date"]
        made = authorization(
            signing_key(*key, date=time[:8], region=region),
            request.method,
            path,
            query=encode_query(dict(parse_qsl(url.query, keep_blank_values=True))),
            headers={name: headers.get(name, "s3.example.com:9000") for name in names},
            time=time,
            payload_hash=payload_hash,
        )
        assert made == expected.replace(", ", ",")
        counted["signatures of S3"] += 1


# Azure.

ACCOUNT = AzureBlobStorage("container", account_name="me", account_key="a2V5")


@st.composite
def azure_requests(draw: st.DrawFn) -> tuple[str, str, str, dict[str, str]]:
    """Method, path, query and headers of a hot request."""
    path = f"/{draw(buckets)}/{quote(draw(keys), safe='~/')}"
    method, query = draw(st.sampled_from([("PUT", ""), ("GET", ""), ("HEAD", ""), ("PUT", "block")]))
    headers: dict[str, str] = {"host": "me.blob.core.windows.net", "x-ms-version": "2026-10-06"}
    headers["x-ms-date"] = http_date(draw(st.integers(0, 4_000_000_000)))
    if method == "GET":
        headers |= draw(st.fixed_dictionaries({}, optional={"x-ms-range": st.just("bytes=1-5"), "if-match": values}))
    elif method == "PUT":
        headers["content-length"] = str(draw(st.integers(0, 2**40)))
        headers["content-md5"] = base64.b64encode(draw(st.binary(min_size=16, max_size=16))).decode()
    if query:
        query = f"comp=block&blockid={quote(base64.b64encode(draw(st.binary(min_size=1, max_size=48))), safe='')}"
        if draw(st.booleans()):  # copied from another blob
            del headers["content-md5"]
            signature = quote(base64.b64encode(draw(st.binary(min_size=32, max_size=32))), safe="")
            headers |= {
                "content-length": "0",
                "x-ms-copy-source": f"https://me.blob.core.windows.net{path}?sp=r&sv=2026-10-06&sr=b&sig={signature}",
                "x-ms-source-if-match": draw(values),
                "x-ms-source-range": "bytes=0-16777215",
            }
    elif method == "PUT":
        metadata = {name: draw(values) for name in azure._NAMES.values()}
        tagged = draw(st.dictionaries(tags, tags, max_size=3))
        attributes = ObjectAttributes(draw(values), draw(st.none() | values), tagged, metadata)
        headers |= {
            **azure.described(attributes, ACCOUNT.settings),
            "if-none-match": "*",
            "x-ms-blob-type": "BlockBlob",
        }
    if sas := draw(st.sampled_from(["", "timeout=20&snapshot=2026-01-01T00%3A00%3A00.0000000Z"])):
        query = f"{query}&{sas}" if query else sas
    return method, path, query, headers


@cases(60)
@given(request=azure_requests(), key=st.binary(min_size=1, max_size=64))
def test_azure_requests_are_signed_as_the_sdk_signs_them(
    request: tuple[str, str, str, dict[str, str]], key: bytes
) -> None:
    method, path, query, headers = request
    url = f"https://me.blob.core.windows.net{path}{'?' if query else ''}{query}"
    # Without aiohttp's transport, which decodes some characters of the path before it sends it; ours sends it as it is.
    sent: Any = SimpleNamespace(
        http_request=HttpRequest(method, url, headers=dict(headers)),
        context=SimpleNamespace(transport=None),
    )
    SharedKeyCredentialPolicy("me", base64.b64encode(key).decode()).on_request(sent)
    text = shared_key.string_to_sign("me", method, path, query=query, headers=headers)
    assert shared_key.authorization("me", SecretKey(key), text) == sent.http_request.headers["Authorization"]
    counted["signatures of Azure"] += 1
