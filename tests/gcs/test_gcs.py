"""`GCSStorage`: the conformance suite on both servers, and what only Cloud Storage has."""

import asyncio
import base64
import pickle
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from gcsfs.core import GCSFileSystem
from google.auth.credentials import Credentials
from google.auth.exceptions import TransportError

from lakery_cloud import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    CredentialsError,
    InvalidRecord,
    LakeryCloudError,
    StorageUnavailable,
)
from lakery_cloud.providers.gcs.storage import GCSStorage
from lakery_cloud.testing import (
    ScriptedProxy,
    StrictGCS,
    content,
    digest_of,
    tap,
)
from lakery_cloud.testing.faults import Answer
from tests.gcs.exchanges import is_begin, is_copy, is_put, is_read
from tests.helpers import write, write_stream
from tests.rigs.gcs import GCSRig

KiB = 1024
MiB = 1024**2


pytestmark = pytest.mark.usefixtures("short_pauses")


def error_body(reason: str, message: str) -> bytes:
    return f'{{"error": {{"code": 0, "message": "{message}", "errors": [{{"reason": "{reason}"}}]}}}}'.encode()


class TestRequests:
    """What is sent."""

    async def test_blob_is_one_request(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        async with strict_rig.storage() as storage:
            await write(storage, content(100_000))
        assert [exchange.method for exchange in proxy.exchanges] == ["POST"]
        assert "ifGenerationMatch=0" in proxy.exchanges[0].target

    async def test_stream_shorter_than_one_part_is_one_request(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        async with strict_rig.storage() as storage:
            await write_stream(storage, content(strict_rig.part_size))
        assert [exchange.method for exchange in proxy.exchanges] == ["POST"]

    async def test_verified_read_is_one_request(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        async with strict_rig.storage() as storage:
            storage_data = await write(storage, content(1_000_000))
            proxy.exchanges.clear()
            assert await storage.read_data(storage_data) == content(1_000_000)
        assert [exchange.method for exchange in proxy.exchanges] == ["GET"]

    async def test_copy_is_create_only_and_pinned_to_its_source(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        async with strict_rig.storage() as storage:
            await write_stream(storage, content(strict_rig.part_size * 2))
        (copy,) = [exchange for exchange in proxy.exchanges if is_copy(exchange)]
        assert "ifGenerationMatch=0" in copy.target
        assert "ifSourceGenerationMatch=1" in copy.target

    async def test_settings_travel_with_the_requests(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        options = {"user_project": "payer", "kms_key_name": "the/key", "storage_class": "NEARLINE"}
        data = content(strict_rig.part_size * 2)
        async with strict_rig.storage(**options) as storage:
            storage_data = await write(storage, b"small")
            assert storage_data["user_project"] == "payer"
            assert await storage.read_data(await write_stream(storage, data)) == data
        assert all("userProject=payer" in exchange.target for exchange in proxy.exchanges if exchange.method != "PUT")
        assert all("kmsKeyName=the" in e.target for e in proxy.exchanges if is_put(e) or is_begin(e))
        assert all("destinationKmsKeyName=the" in e.target for e in proxy.exchanges if is_copy(e))
        assert strict_rig.double is not None
        stored = strict_rig.double.buckets[strict_rig.bucket]
        assert {found.resource["storageClass"] for found in stored.values()} == {"NEARLINE"}

    async def test_payer_named_in_storage_data_pays(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        async with strict_rig.storage() as storage:
            storage_data = await write(storage, b"data")
            assert await storage.read_data({**storage_data, "user_project": "payer"}) == b"data"
            assert "userProject=payer" in proxy.exchanges[-1].target
        async with strict_rig.storage(user_project="mine") as storage:
            assert await storage.read_data({**storage_data, "user_project": "payer"}) == b"data"
            assert "userProject=mine" in proxy.exchanges[-1].target

    async def test_boundary_inside_of_the_data_does_no_harm(
        self, gcs_rig: GCSRig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with gcs_rig.storage() as storage:
            for data in (b"--==0==--", b"\r\n--==0==\r\n\r\n", b"\n--", b"\r\n", b"\r\n\r\n--"):
                assert await storage.read_data(await write(storage, data)) == data

    async def test_tags_with_any_allowed_character_are_header_names(self, gcs_rig: GCSRig) -> None:
        tags = {"a +-./:=_b": "v +-./:=_", "A": "upper", "a": "lower", "content-hash": "not ours"}
        async with gcs_rig.storage() as storage:
            found = await storage.stat(await write(storage, b"data", tags))
        assert found.tags == tags
        assert found.info.metadata["content-hash"] == digest_of(b"data")["content_hash"]

    async def test_listing_goes_over_all_pages(self, strict_rig: GCSRig, double: StrictGCS) -> None:
        double.page_size = 2
        try:
            async with strict_rig.storage(prefix="ä/b") as storage:
                for number in range(5):
                    await write(storage, bytes([number]))
                await strict_rig.put("ä/b/below/other", b"")
                assert len([info async for info in storage.list()]) == 5
        finally:
            double.page_size = 1000

    async def test_reading_what_was_stored_as_gzip_gives_the_stored_bytes_in_ranges_too(self, gcs_rig: GCSRig) -> None:
        import gzip

        data = gzip.compress(content(300_000), mtime=0)
        async with gcs_rig.storage(concurrent_ranges=3, range_size=100_000) as storage:
            storage_data = await storage.write_data(data, digest_of(data, content_encoding="gzip"), {})
            assert await storage.read_data(storage_data) == data


async def test_part_sizes_that_grow_stay_multiples_of_what_a_chunk_must_be(strict_rig: GCSRig) -> None:
    data = content(strict_rig.part_size * 9 + 1)
    limits = replace(strict_rig.storage().settings.limits, max_parts=30)
    storage = strict_rig.storage(limits=limits)
    wire = tap(storage)
    async with storage:
        assert await storage.read_data(await write_stream(storage, data)) == data
    assert 5 < wire.count("upload_part") < 10
    await strict_rig.check_nothing_temporary()


class TestErrors:
    """What a user is told."""

    @pytest.mark.parametrize(
        ("status", "body", "kind", "said"),
        [
            (
                400,
                error_body("invalid", "Bucket is a requester pays bucket but no user project provided."),
                ConfigError,
                "Set user_project",
            ),
            (
                401,
                error_body("authError", "Invalid Credentials"),
                CredentialsError,
                "gcloud auth application-default login",
            ),
            (403, error_body("forbidden", "nobody does not have access"), AccessDenied, "Grant storage.objects.create"),
            (403, error_body("rateLimitExceeded", "too fast"), StorageUnavailable, "too fast"),
            (404, b"Not Found", BucketNotFound, "Create it"),
            (405, b"odd", LakeryCloudError, "odd"),
            (409, b"", StorageUnavailable, "conflicted with another write"),
        ],
    )
    async def test_refusal_says_what_to_do(
        self, strict_rig: GCSRig, proxy: ScriptedProxy, status: int, body: bytes, kind: type[Exception], said: str
    ) -> None:
        proxy.answer(is_put, status=status, body=body, times=100)
        async with strict_rig.storage() as storage:
            with pytest.raises(kind, match=said) as raised:
                await write(storage, b"data")
        assert type(raised.value) is kind
        await strict_rig.check_nothing_left()

    async def test_denied_requests_say_what_to_grant(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        async with strict_rig.storage() as storage:
            storage_data = await write(storage, b"data")
            proxy.answer(lambda _: True, status=403, times=100)
            with pytest.raises(AccessDenied, match="without storage.objects.list Cloud Storage answers like this"):
                await storage.read_data(storage_data)
            with pytest.raises(AccessDenied, match="Grant storage.objects.delete"):
                await storage.delete(storage_data)
            with pytest.raises(AccessDenied, match="Grant storage.objects.list"):
                assert [info async for info in storage.list()] == []

    async def test_endpoint_that_ignores_ranges_is_noticed(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        async with strict_rig.storage(concurrent_ranges=2, range_size=1000) as storage:
            storage_data = await write(storage, content(2000))
            proxy.script(is_read, Answer(200, headers={"X-Goog-Generation": "1"}), times=100)
            with pytest.raises(StorageUnavailable, match="ignores ranges"):
                await storage.read_data(storage_data)

    async def test_endpoint_without_tls_is_unavailable(self, strict_rig: GCSRig) -> None:
        url = strict_rig.endpoint_url.replace("http://", "https://")
        async with strict_rig.storage(endpoint_url=url) as storage:
            with pytest.raises(StorageUnavailable, match="no TLS connection"):
                await write(storage, b"data")

    async def test_redirect_is_refused(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        proxy.answer(is_put, status=302, times=100)
        async with strict_rig.storage() as storage:
            with pytest.raises(LakeryCloudError, match="302"):
                await write(storage, b"data")

    @pytest.mark.case("34")
    async def test_expired_credentials_are_a_credentials_error(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        from google.oauth2.credentials import Credentials as UserCredentials

        proxy.answer(is_put, status=401, body=error_body("authError", "Invalid Credentials"))
        async with strict_rig.storage(token=UserCredentials("ya29.secret")) as storage:
            with pytest.raises(CredentialsError, match="were not accepted") as raised:
                await write(storage, b"data")
        assert "secret" not in f"{raised.value!r} {raised.value.__cause__!r}"

    async def test_denied_bucket_counts_as_there(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        proxy.answer(lambda e: e.target.partition("?")[0].endswith(strict_rig.bucket), status=403)
        async with strict_rig.storage() as storage:
            with pytest.raises(LookupError, match="no object at"):
                await storage.read_data(storage.storage_data_of(digest_of(b"missing")))

    async def test_missing_default_credentials_say_what_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
        async with GCSStorage("bucket", token="google_default") as storage:
            with pytest.raises(CredentialsError, match="gcloud auth application-default login"):
                await write(storage, b"data")

    async def test_token_is_in_no_error_repr_or_pickle(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: Any, **__: Any) -> None:
            raise OSError("https://oauth2.googleapis.com/tokeninfo?access_token=ya29.secret")

        monkeypatch.setattr("requests.get", fail)
        storage = GCSStorage("bucket", token="ya29.secret")
        assert "secret" not in repr(storage)
        with pytest.raises(ConfigError, match="can't be pickled") as refused:
            pickle.dumps(storage)
        assert "secret" not in str(refused.value)
        with pytest.raises(CredentialsError) as raised:
            await write(storage, b"data")
        error: BaseException | None = raised.value
        while error is not None:
            assert "secret" not in str(error)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

    def test_wrong_settings_are_refused(self) -> None:
        fs = GCSFileSystem(token="anon", endpoint_url="http://127.0.0.1:1", asynchronous=True, skip_instance_cache=True)
        for options in (
            {"fs": fs, "token": "anon"},
            {"fs": fs, "endpoint_url": "http://127.0.0.1:1"},
            {"max_attempts": 0},
            {"part_size": 256 * KiB + 1},
            {"part_size": 1000},
            {"endpoint_url": "nowhere"},
        ):
            with pytest.raises(ConfigError):
                GCSStorage("bucket", **options)
        for url in ("gs://bucket?token=ya29.secret", "gs://bucket?part_size=1"):
            with pytest.raises(ConfigError) as raised:
                GCSStorage.from_url(url)
            assert "secret" not in str(raised.value)
        with pytest.raises(ConfigError, match="can't be pickled"):
            pickle.dumps(GCSStorage("bucket", fs=fs))


class TestOwnership:
    """Sessions, file systems and tokens."""

    async def test_own_fs_is_used_as_it_is_and_stays_open(self, gcs_rig: GCSRig) -> None:
        import gzip

        fs = GCSFileSystem(
            project="test", token="anon", endpoint_url=gcs_rig.endpoint_url, asynchronous=True, skip_instance_cache=True
        )
        session = await fs._set_session()
        data = gzip.compress(content(1000), mtime=0)
        async with GCSStorage(gcs_rig.bucket, fs=fs, part_size=gcs_rig.part_size) as storage:
            storage_data = await storage.write_data(data, digest_of(data, content_encoding="gzip"), {})
            assert await storage.read_data(storage_data) == data
            stream = content(gcs_rig.part_size * 2)
            assert await storage.read_data(await write_stream(storage, stream)) == stream
        assert fs._session is session
        assert not session.closed
        await session.close()

    async def test_emulator_of_the_environment_is_found(self, gcs_rig: GCSRig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs_rig.endpoint_url)
        async with GCSStorage(gcs_rig.bucket) as storage:
            assert await storage.read_data(await write(storage, b"data")) == b"data"

    async def test_token_is_renewed_off_the_event_loop_and_once(self, strict_rig: GCSRig, proxy: ScriptedProxy) -> None:
        import threading

        class Short(Credentials):
            renewals = 0

            def refresh(self, request: Any) -> None:
                assert threading.current_thread() is not threading.main_thread()
                self.renewals += 1
                time.sleep(0.05)
                self.token = f"token-{self.renewals}"
                self.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)

        token = Short()
        async with strict_rig.storage(token=token) as storage:
            await asyncio.gather(*(write(storage, bytes([number])) for number in range(10)))
        assert token.renewals == 1
        assert {exchange.headers["authorization"] for exchange in proxy.exchanges} == {"Bearer token-1"}

    async def test_token_that_can_not_be_renewed_is_a_credentials_error(self, strict_rig: GCSRig) -> None:
        from google.oauth2.credentials import Credentials as UserCredentials

        async with strict_rig.storage(token=UserCredentials(None)) as storage:
            with pytest.raises(CredentialsError, match="could not be renewed"):
                await write(storage, b"data")

    async def test_token_whose_issuer_is_not_there_is_unavailable(self, strict_rig: GCSRig) -> None:
        class Lost(Credentials):
            def refresh(self, request: Any) -> None:
                raise TransportError("the issuer is not there")

        async with strict_rig.storage(token=Lost()) as storage:
            with pytest.raises(StorageUnavailable, match="the issuer is not there"):
                await write(storage, b"data")

    async def test_storage_data_of_labox_may_name_no_payer(self, gcs_rig: GCSRig) -> None:
        await gcs_rig.put("labox/a.json", b"[]")
        async with gcs_rig.storage() as storage:
            record: Any = {"bucket": gcs_rig.bucket, "blob": "labox/a.json", "user_project": None}
            text = storage.serialize_storage_data(record)
            assert await storage.read_data(storage.deserialize_storage_data(text)) == b"[]"
            for bad in ({"bucket": "b"}, {"bucket": 1, "blob": "b"}, {"bucket": "b", "blob": "b", "user_project": 1}):
                with pytest.raises(InvalidRecord):
                    await storage.read_data(bad)


class TestDouble:
    """The strict double is as fake-gcs-server where that one is right, and as the documentation where it isn't."""

    @pytest.fixture
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        # fake-gcs-server cuts a connection after a 416 without a word.
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as client:
            yield client

    async def test_both_servers_answer_alike(self, gcs_rig: GCSRig, client: aiohttp.ClientSession) -> None:
        base, upload = gcs_rig._bucket_url(), f"{gcs_rig.endpoint_url}/upload/storage/v1/b/{gcs_rig.bucket}/o"
        await gcs_rig.put("there", b"0123456789")
        async with client.get(f"{base}/o/there?alt=media", headers={"Range": "bytes=2-4"}) as answer:
            assert (answer.status, answer.headers["Content-Range"], await answer.read()) == (
                206,
                "bytes 2-4/10",
                b"234",
            )
            generation = answer.headers["X-Goog-Generation"]
        for url, status in (
            (f"{base}/o/there?alt=media&generation={generation}", 200),
            (f"{base}/o/there?alt=media&generation=1", 404),
            (f"{base}/o/missing", 404),
            (f"{gcs_rig.endpoint_url}/storage/v1/b/missing-bucket", 404),
            (f"{gcs_rig.endpoint_url}/storage/v1/b/missing-bucket/o", 404),
        ):
            async with client.get(url) as answer:
                assert answer.status == status, url
        async with client.get(f"{base}/o/there?alt=media", headers={"Range": "bytes=10-12"}) as answer:
            assert answer.status == 416
        async with client.post(f"{upload}?uploadType=resumable&name=r", json={"metadata": {"a": "b"}}) as answer:
            assert answer.status == 200
            session = answer.headers["Location"]
        chunk = bytes(256 * KiB)
        async with client.put(session, data=chunk, headers={"Content-Range": f"bytes 0-{len(chunk) - 1}/*"}) as answer:
            assert (answer.status, answer.headers["Range"]) == (308, f"bytes=0-{len(chunk) - 1}")
        total = len(chunk) + 1
        async with client.put(
            session, data=b"!", headers={"Content-Range": f"bytes {total - 1}-{total - 1}/{total}"}
        ) as answer:
            made = await answer.json()
            assert (answer.status, made["size"], made["metadata"]) == (200, str(total), {"a": "b"})
        async with client.post(f"{upload}?uploadType=resumable&name=r") as answer:
            session = answer.headers["Location"]
        async with client.delete(session) as answer:
            assert answer.status == 499

    async def test_preconditions_hold_everywhere(self, strict_rig: GCSRig, client: aiohttp.ClientSession) -> None:
        base, upload = strict_rig._bucket_url(), f"{strict_rig.endpoint_url}/upload/storage/v1/b/{strict_rig.bucket}/o"
        await strict_rig.put("there", b"data")
        for method, url in (
            ("GET", f"{base}/o/there?ifGenerationMatch=1"),
            ("GET", f"{base}/o/there?alt=media&ifGenerationMatch=1"),
            ("DELETE", f"{base}/o/there?ifGenerationMatch=1"),
            ("POST", f"{base}/o/there/rewriteTo/b/{strict_rig.bucket}/o/copy?ifSourceGenerationMatch=1"),
            ("POST", f"{base}/o/there/rewriteTo/b/{strict_rig.bucket}/o/there?ifGenerationMatch=0"),
            ("POST", f"{upload}?uploadType=media&name=there&ifGenerationMatch=0"),
            ("POST", f"{upload}?uploadType=resumable&name=there&ifGenerationMatch=0"),
        ):
            async with client.request(method, url) as answer:
                assert answer.status == 412, url

    async def test_resumable_upload_keeps_its_rules(self, strict_rig: GCSRig, client: aiohttp.ClientSession) -> None:
        upload = f"{strict_rig.endpoint_url}/upload/storage/v1/b/{strict_rig.bucket}/o"
        crc32c = base64.b64encode(bytes(4)).decode()
        async with client.post(f"{upload}?uploadType=resumable&name=r", json={"crc32c": crc32c}) as answer:
            session = answer.headers["Location"]

        async def put(data: bytes, content_range: str) -> tuple[int, str | None]:
            async with client.put(session, data=data, headers={"Content-Range": f"bytes {content_range}"}) as answer:
                return answer.status, answer.headers.get("Range")

        step = 256 * KiB
        assert await put(b"", "*/*") == (308, None)
        assert (await put(b"short", "0-4/*"))[0] == 400
        assert (await put(bytes(step), f"{step}-{2 * step - 1}/*"))[0] == 400
        assert await put(bytes(step), f"0-{step - 1}/*") == (308, f"bytes=0-{step - 1}")
        assert await put(b"", "*/*") == (308, f"bytes=0-{step - 1}")
        assert await put(bytes(2 * step), f"0-{2 * step - 1}/*") == (308, f"bytes=0-{2 * step - 1}")
        assert (await put(b"", f"*/{2 * step}"))[0] == 400, "its checksum is wrong"
        async with client.delete(session) as answer:
            assert answer.status == 499
        assert (await put(b"", "*/*"))[0] == 410
        async with client.delete(session) as answer:
            assert answer.status == 410
        async with client.delete(f"{upload}?upload_id=unknown") as answer:
            assert answer.status == 404
