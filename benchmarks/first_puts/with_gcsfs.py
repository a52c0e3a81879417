"""gcsfs."""

import hashlib
import sys

from gcsfs import GCSFileSystem

url, bucket, key = sys.argv[1:]
data = key.encode().ljust(1024)
fs = GCSFileSystem(project="bench", token="anon", endpoint_url=url)  # noqa: S106, it is none
fs.pipe_file(f"{bucket}/{hashlib.sha256(data).hexdigest()}", data)
