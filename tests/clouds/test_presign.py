"""URLs that need no credentials, used by a plain HTTP client."""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from yarl import URL

from lakery_cloud import (
    AzureBlobStorage,
    ConfigError,
    CredentialsError,
    FileStorage,
    GCSStorage,
    InvalidRecord,
    MemoryStorage,
    ObjectStorage,
    PresignedURL,
    S3Storage,
    StorageRegistry,
)
from lakery_cloud.testing import content, digest_of
from tests.conftest import rig_on
from tests.helpers import write
from tests.rigs.base import CloudRig
from tests.rigs.gcs import GCSRig
from tests.rigs.pairs import LOCAL_PAIRS
from tests.rigs.s3 import S3Rig

DATA = content(1000)
DIGEST = digest_of(DATA, content_encoding="identity")

signing_rig = rig_on(*(pair for pair in LOCAL_PAIRS if pair.cloud in ("s3", "azure")))


async def request(signed: PresignedURL, data: bytes | None = None, *, without: str = "") -> tuple[int, bytes]:
    """Send a request without credentials."""
    headers = {name: value for name, value in signed.headers.items() if name.lower() != without}
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as client,
        client.request(signed.method, URL(signed.url, encoded=True), data=data, headers=headers) as answer,
    ):
        return answer.status, await answer.read()


async def test_url_gets_content(signing_rig: CloudRig) -> None:
    async with signing_rig.storage(prefix="a b/ü") as storage:
        storage_data = await storage.write_data(DATA, DIGEST, {})
        for signed in (await storage.presign(storage_data), await storage.presign(DIGEST, method="GET")):
            assert await request(signed) == (200, DATA)


async def test_url_puts_content_once(signing_rig: CloudRig) -> None:
    async with signing_rig.storage(prefix="a b/ü") as storage:
        signed = await storage.presign(DIGEST, method="PUT")
        assert (await request(signed, DATA))[0] in (200, 201)
        storage_data = storage.storage_data_of(DIGEST)
        assert await storage.read_data(storage_data) == DATA
        info = (await storage.stat(storage_data)).info
        assert (info.content_type, info.content_encoding) == (DIGEST["content_type"], DIGEST["content_encoding"])
        assert await storage.digest_of(DIGEST["content_hash"]) == DIGEST
        assert await storage.write_data(DATA, DIGEST, {}) == storage_data
        status, _ = await request(signed, DATA)
        assert status in (403, 409, 412)


async def test_registry_signs_for_a_record(signing_rig: CloudRig) -> None:
    async with StorageRegistry([signing_rig.storage()]) as registry:
        record = await registry.save({"data": DATA, "content_type": "text/plain", "content_encoding": None})
        assert await request(await registry.presign(record)) == (200, DATA)
        await registry.delete(record)
        assert (await request(await registry.presign(record, method="PUT"), DATA))[0] in (200, 201)
        assert (await registry.load(record))["data"] == DATA


async def test_url_of_azure_never_replaces_even_without_its_headers(azure_rig: CloudRig) -> None:
    async with azure_rig.storage() as storage:
        signed = await storage.presign(DIGEST, method="PUT")
        assert not signed.pins_content
        assert (await request(signed, DATA))[0] == 201
        status, _ = await request(signed, b"other", without="if-none-match")
        assert status in (403, 409)
        assert await storage.read_data(storage.storage_data_of(DIGEST)) == DATA


async def test_url_of_s3_puts_nothing_but_the_content(seaweedfs_rig: S3Rig) -> None:
    async with seaweedfs_rig.storage() as storage:
        signed = await storage.presign(DIGEST, method="PUT")
        assert signed.pins_content
        assert (await request(signed, content(1000, seed=1)))[0] == 400
        for header in ("x-amz-checksum-sha256", "if-none-match"):
            assert (await request(signed, DATA, without=header))[0] == 403
        assert await seaweedfs_rig.keys() == []
        assert (await request(signed, DATA))[0] == 200


async def test_url_is_for_one_method_and_one_key(signing_rig: CloudRig) -> None:
    if signing_rig.name.endswith(("MotoServer", "LocalStack")):
        pytest.skip("it does not check signatures")
    async with signing_rig.storage() as storage:
        await storage.write_data(DATA, DIGEST, {})
        other = digest_of(b"other")
        await write(storage, b"other")
        signed = await storage.presign(DIGEST)
        moved = signed.url.replace(DIGEST["content_hash"], other["content_hash"])
        for stolen in (
            PresignedURL("DELETE", signed.url, {}, signed.expires_at),
            PresignedURL("GET", moved, {}, signed.expires_at),
        ):
            assert (await request(stolen))[0] == 403
        assert await request(signed) == (200, DATA)


async def test_url_has_its_expiry(signing_rig: CloudRig) -> None:
    async with signing_rig.storage() as storage:
        short, long = [await storage.presign(DIGEST, expires=timedelta(hours=hours)) for hours in (1, 168)]
        assert timedelta(hours=166) < long.expires_at - short.expires_at < timedelta(hours=168)
        query = dict(parse_qsl(urlsplit(short.url).query))
        end = query.get("X-Amz-Expires") or query["se"]
        assert end in ("3600", short.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"))


async def test_url_is_in_no_log_and_no_repr(signing_rig: CloudRig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with signing_rig.storage() as storage:
        signed = await storage.presign(DIGEST, method="PUT")
    signature = parse_qsl(urlsplit(signed.url).query)[-1][1]
    assert len(signature) > 40
    for text in (repr(signed), caplog.text):
        assert signature not in text
        assert quote(signature, safe="") not in text


CLOUDS: list[ObjectStorage[Any]] = [
    S3Rig.storage_at("http://127.0.0.1:9"),
    GCSRig.storage_at("http://127.0.0.1:9"),
    AzureBlobStorage("container", account_name="me", account_key="c2VjcmV0", endpoint_url="http://127.0.0.1:9/me"),
]


@pytest.mark.parametrize("storage", CLOUDS, ids=["s3", "gcs", "azure"])
@pytest.mark.parametrize(
    ("target", "options", "error", "message"),
    [
        (DIGEST, {"expires": timedelta(days=7, seconds=1)}, ConfigError, "from a second to 7 days"),
        (DIGEST, {"expires": timedelta(0)}, ConfigError, "from a second to 7 days"),
        (DIGEST, {"method": "DELETE"}, ConfigError, "must be GET or PUT"),
        (
            {"bucket": "b", "key": "k", "container": "b", "blob": "k"},
            {"method": "PUT"},
            ConfigError,
            "needs the content's digest",
        ),
        ({**DIGEST, "content_hash": "../x"}, {}, InvalidRecord, "hash"),
        (3, {}, InvalidRecord, "must be an object"),
        ({**DIGEST, "content_size": 6 * 1024**4}, {"method": "PUT"}, ConfigError, "a PUT has at most"),
    ],
)
async def test_invalid_options_are_refused_before_any_request(
    storage: ObjectStorage[Any], target: Any, options: Any, error: type[Exception], message: str
) -> None:
    async with storage:
        with pytest.raises(error, match=message):
            await storage.presign(target, **options)


@pytest.mark.parametrize("storage", [MemoryStorage(), FileStorage("nowhere")], ids=["memory", "file"])
async def test_storage_without_a_server_has_no_urls(storage: ObjectStorage[Any]) -> None:
    with pytest.raises(ConfigError, match="has no URLs"):
        await storage.presign(DIGEST)


async def test_s3_pins_no_hash_but_sha256() -> None:
    async with S3Rig.storage_at("http://127.0.0.1:9") as storage:
        with pytest.raises(ConfigError, match="S3 checks sha256 alone"):
            await storage.presign(digest_of(DATA, algorithm="sha512"), method="PUT")


async def test_s3_url_has_the_settings_of_the_storage() -> None:
    settings = {"sse": "aws:kms", "kms_key_id": "key", "storage_class": "STANDARD_IA", "requester_pays": True}
    async with S3Rig.storage_at("http://127.0.0.1:9", **settings) as storage:
        signed = await storage.presign(DIGEST, method="PUT")
    sent = {name.lower(): value for name, value in signed.headers.items()}
    assert sent["x-amz-server-side-encryption"] == "aws:kms"
    assert sent["x-amz-server-side-encryption-aws-kms-key-id"] == "key"
    assert sent["x-amz-storage-class"] == "STANDARD_IA"
    assert sent["x-amz-request-payer"] == "requester"
    assert _signed_headers(signed.url, "X-Amz-SignedHeaders") == {*sent, "host"}


async def test_azure_and_gcs_urls_have_the_settings_of_the_storage(account: str) -> None:
    azure = AzureBlobStorage("container", account_name="me", account_key="c2VjcmV0", access_tier="Cool")
    gcs = GCSStorage("bucket", token=account, kms_key_name="key", storage_class="NEARLINE")
    async with azure, gcs:
        assert (await azure.presign(DIGEST, method="PUT")).headers["x-ms-access-tier"] == "Cool"
        headers = (await gcs.presign(DIGEST, method="PUT")).headers
    assert (headers["x-goog-encryption-kms-key-name"], headers["x-goog-storage-class"]) == ("key", "NEARLINE")


async def test_storage_without_credentials_signs_nothing() -> None:
    for storage in (
        S3Storage("bucket", region="us-east-1", endpoint_url="http://127.0.0.1:9"),
        GCSStorage("bucket", token="anon"),
        AzureBlobStorage("container", account_name="me", sas_token="sv=1&sig=c2VjcmV0"),
    ):
        async with storage:
            with pytest.raises(CredentialsError) as raised:
                await storage.presign(DIGEST)
            assert "c2VjcmV0" not in str(raised.value)


@pytest.fixture(scope="module")
def private_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def account(tmp_path: Path, private_key: rsa.RSAPrivateKey) -> str:
    """Write the key file of a new service account."""
    pem = private_key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "account.json"
    path.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "project",
                "private_key_id": "1",
                "private_key": pem.decode(),
                "client_email": "signer@project.iam.gserviceaccount.com",
                "client_id": "1",
                "token_uri": "https://oauth2.googleapis.com/token",
            }
        )
    )
    return str(path)


@pytest.mark.case("67")
@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(
    "host", ["storage.googleapis.com", "storage-me.p.googleapis.com", "storage.example.com:8443", "127.0.0.1:1"]
)
async def test_gcs_url_is_signed_by_the_documented_rule(
    account: str, private_key: rsa.RSAPrivateKey, method: Any, host: str
) -> None:
    settings = {"token": account, "user_project": "payer", "endpoint_url": f"https://{host}"}
    async with GCSStorage("bucket", prefix="a b/ü", **settings) as storage:
        signed = await storage.presign(DIGEST, method=method, expires=timedelta(days=7))
    parts = urlsplit(signed.url)
    assert (parts.scheme, parts.netloc) == ("https", host)
    assert parts.path == f"/bucket/{quote('a b/ü')}/{DIGEST['content_hash']}"
    query = dict(parse_qsl(parts.query))
    assert (query["X-Goog-Expires"], query["userProject"]) == ("604800", "payer")
    signature = bytes.fromhex(query["X-Goog-Signature"])
    to_sign = _string_to_sign(method, signed.url, {**signed.headers, "host": parts.netloc})
    private_key.public_key().verify(signature, to_sign.encode(), padding.PKCS1v15(), hashes.SHA256())
    assert signed.headers.get("x-goog-if-generation-match") == ("0" if method == "PUT" else None)
    assert signed.headers.get("x-goog-content-length-range") == ("1000,1000" if method == "PUT" else None)


def at_google(signed: PresignedURL) -> PresignedURL:
    """Return the request for fake-gcs-server, which expects the XML API on Google's host name only."""
    return replace(signed, headers={**signed.headers, "Host": "storage.googleapis.com"})


async def test_gcs_url_gets_and_puts_content(account: str, fake_gcs: Any) -> None:
    async with GCSRig("FakeGCS", fake_gcs.endpoint_url) as rig:
        other = digest_of(b"other")
        async with rig.storage(prefix="a b/ü") as storage, rig.storage(prefix="a b/ü", token=account) as signer:
            await storage.write_data(DATA, DIGEST, {})
            assert await request(at_google(await signer.presign(DIGEST))) == (200, DATA)
            status, _ = await request(at_google(await signer.presign(other, method="PUT")), b"other")
            assert status == 200
            assert await storage.read_data(storage.storage_data_of(other)) == b"other"


def _string_to_sign(method: str, url: str, headers: Mapping[str, str]) -> str:
    """Cloud Storage, "Canonical requests" and "Signatures"."""
    parts = urlsplit(url)
    pairs = sorted(pair for pair in parts.query.split("&") if not pair.startswith("X-Goog-Signature="))
    lowered = sorted((name.lower(), value) for name, value in headers.items())
    assert _signed_headers(url, "X-Goog-SignedHeaders") == {name for name, _ in lowered}
    canonical = "\n".join(
        [
            method,
            parts.path,
            "&".join(pairs),
            *(f"{name}:{value}" for name, value in lowered),
            "",
            ";".join(name for name, _ in lowered),
            "UNSIGNED-PAYLOAD",
        ]
    )
    query = dict(parse_qsl(parts.query))
    scope = query["X-Goog-Credential"].partition("/")[2]
    return "\n".join(
        [query["X-Goog-Algorithm"], query["X-Goog-Date"], scope, hashlib.sha256(canonical.encode()).hexdigest()]
    )


def _signed_headers(url: str, name: str) -> set[str]:
    return set(dict(parse_qsl(urlsplit(url).query))[name].split(";"))
