"""Programs that put 1 KiB and end, each as short as its library allows: `python -m <program> URL BUCKET KEY`.

Credentials and region come from the environment, except the account of Blob Storage.
"""
