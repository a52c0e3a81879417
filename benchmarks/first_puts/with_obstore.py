"""obstore."""

import hashlib
import sys

from obstore.store import S3Store

url, bucket, key = sys.argv[1:]
data = key.encode().ljust(1024)
store = S3Store(bucket, endpoint=url, virtual_hosted_style_request=False, client_options={"allow_http": True})
store.put(hashlib.sha256(data).hexdigest(), data, use_multipart=False)
