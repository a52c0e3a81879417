"""boto3."""

import hashlib
import sys

import boto3

url, bucket, key = sys.argv[1:]
data = key.encode().ljust(1024)
client = boto3.client("s3", endpoint_url=url)
client.put_object(Bucket=bucket, Key=hashlib.sha256(data).hexdigest(), Body=data)
