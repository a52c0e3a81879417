"""azure-storage-blob."""

import hashlib
import sys

from azure.storage.blob import BlobServiceClient

from benchmarks.peers.azure_account import connection_string

url, container, key = sys.argv[1:]
data = key.encode().ljust(1024)
with BlobServiceClient.from_connection_string(connection_string(url)) as service:
    service.get_blob_client(container, hashlib.sha256(data).hexdigest()).upload_blob(data, overwrite=True)
