"""obstore on Cloud Storage."""

import hashlib
import json
import sys

from obstore.store import GCSStore

url, bucket, key = sys.argv[1:]
data = key.encode().ljust(1024)
account = {"gcs_base_url": url, "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
store = GCSStore(bucket, service_account_key=json.dumps(account), client_options={"allow_http": True})
store.put(hashlib.sha256(data).hexdigest(), data, use_multipart=False)
