"""Programs that put 1 KiB to S3 and end, each as short as its library allows: `python -m <program> URL BUCKET KEY`.

Credentials and region come from the environment.
"""
