"""adlfs."""

import hashlib
import sys

from adlfs import AzureBlobFileSystem

from benchmarks.peers.azure_account import connection_string

url, container, key = sys.argv[1:]
data = key.encode().ljust(1024)
fs = AzureBlobFileSystem(connection_string=connection_string(url))
fs.pipe_file(f"{container}/{hashlib.sha256(data).hexdigest()}", data)
