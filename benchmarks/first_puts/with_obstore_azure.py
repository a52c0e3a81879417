"""obstore on Blob Storage."""

import hashlib
import sys

from obstore.store import AzureStore

from benchmarks.peers.azure_account import KEY, NAME

url, container, key = sys.argv[1:]
data = key.encode().ljust(1024)
options = {"allow_http": True}
store = AzureStore(container, account_name=NAME, account_key=KEY, endpoint=f"{url}/{NAME}", client_options=options)
store.put(hashlib.sha256(data).hexdigest(), data, use_multipart=False)
