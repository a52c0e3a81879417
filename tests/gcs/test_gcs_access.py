"""How `GCSStorage` finds its endpoint and its credentials: as gcsfs does, but without gcsfs where it isn't needed."""

import asyncio
import json
from pathlib import Path

import pytest
from gcsfs.core import GCSFileSystem

from lakery_cloud import GCSStorage, LakeryCloudError
from lakery_cloud.providers.gcs.sdk import find_access
from lakery_cloud.testing import StrictGCS
from tests.gcs.test_gcs_requests import is_pooled
from tests.helpers import proxy_before, run_python, write
from tests.rigs.gcs import GCSRig
from tests.tls import tls_before

WORK = """
    import asyncio, sys
    from lakery_cloud import DigestingStream, GCSStorage, digest_data

    blob = {"data": b"content", "content_type": "x/y", "content_encoding": None}
    token = "anon"
    if sys.argv[2] == "credentials":
        import google.oauth2.credentials
        token = google.oauth2.credentials.Credentials("token")

    async def chunks():
        for _ in range(9):
            yield bytes(1024 * 1024)

    async def main():
        async with GCSStorage("bucket", endpoint_url=sys.argv[1], token=token) as storage:
            found = await storage.write_data(blob["data"], await digest_data(blob), {})
            assert await storage.read_data(found) == blob["data"]
            await storage.stat(found)
            async for _ in storage.list():
                pass
            stream = DigestingStream({"data_stream": chunks(), "content_type": "x/y", "content_encoding": None})
            await storage.delete(await storage.write_data_stream(stream, stream.get_digest, {}))
        slow = {"aiohttp", "gcsfs", "google.cloud.storage", "requests"} & set(sys.modules)
        print(sorted(slow) if token == "anon" else sorted(slow - {"requests"}))

    asyncio.run(main())
"""


@pytest.mark.parametrize("token", ["anon", "credentials"])
async def test_work_loads_no_sdk(token: str) -> None:
    async with StrictGCS() as server:
        server.make_bucket("bucket")
        assert await asyncio.to_thread(run_python, WORK, server.url, token) == "[]\n"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"STORAGE_EMULATOR_HOST": ""},
        {"STORAGE_EMULATOR_HOST": "default"},
        {"STORAGE_EMULATOR_HOST": "localhost:4443"},
        {"STORAGE_EMULATOR_HOST": "http://localhost:4443/"},
        {"STORAGE_EMULATOR_HOST": "https://me:secret@emulator"},
        {"GOOGLE_CLOUD_UNIVERSE_DOMAIN": "example.com"},
        {"GOOGLE_CLOUD_UNIVERSE_DOMAIN": "example.com", "STORAGE_EMULATOR_HOST": "localhost:1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("given", [None, "https://example.org"])
def test_endpoint_is_the_one_of_gcsfs(
    environment: dict[str, str], given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_UNIVERSE_DOMAIN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    fs = GCSFileSystem(token="anon", endpoint_url=given, asynchronous=True, skip_instance_cache=True)
    settings = GCSStorage("bucket", token="anon", endpoint_url=given).settings
    assert find_access(settings).endpoint == fs._location


@pytest.mark.parametrize("wanted", [True, False])
async def test_client_certificate_is_presented_if_one_is_configured(
    strict_rig: GCSRig, wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        proxy_before(strict_rig) as proxy,
        tls_before(proxy.url, tmp_path, name="127.0.0.1", asks_clients=True) as url,
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        pair = {"cert_path": str(tmp_path / "ca.pem"), "key_path": str(tmp_path / "server.pem")}
        config = tmp_path / "certificate_config.json"
        config.write_text(json.dumps({"cert_configs": {"workload": pair}}))
        monkeypatch.setenv("GOOGLE_API_CERTIFICATE_CONFIG", str(config))
        monkeypatch.setenv("GOOGLE_API_USE_CLIENT_CERTIFICATE", "true" if wanted else "false")
        async with GCSStorage(strict_rig.bucket, endpoint_url=url, token="anon", max_attempts=1) as storage:
            if wanted:
                assert await storage.read_data(await write(storage, b"data")) == b"data"
            else:
                with pytest.raises(LakeryCloudError):
                    await write(storage, b"data")
        assert len(proxy.exchanges) == (2 if wanted else 0)
        assert not any(map(is_pooled, proxy.exchanges))
