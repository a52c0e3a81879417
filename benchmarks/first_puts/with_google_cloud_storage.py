"""google-cloud-storage."""

import hashlib
import sys

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

url, bucket, key = sys.argv[1:]
data = key.encode().ljust(1024)
client = storage.Client("bench", AnonymousCredentials(), client_options={"api_endpoint": url})
client.bucket(bucket).blob(hashlib.sha256(data).hexdigest()).upload_from_string(data)
