#!/bin/sh
# Creates the buckets in LAKERY_BUCKETS, separated by spaces or commas, once LocalStack is ready.
set -eu

for bucket in $(echo "${LAKERY_BUCKETS:-}" | tr ',' ' '); do
    awslocal s3api create-bucket --bucket "$bucket"
done
