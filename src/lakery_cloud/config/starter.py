"""The file that `lakery-cloud config init` writes."""

STARTER = """\
# Storages of lakery-cloud. All settings: docs/settings.md. See `lakery-cloud config check` and `config show`.
# Environment variables take precedence over this file: LAKERY_CLOUD_STORAGES__LOCAL__URL=...

default = "local"                          # saves content that matches no route

[storages.local]
url = "{url}"

# [storages.hot]
# url = "s3://my-bucket/blobs"             # class, bucket and prefix
# region = "eu-central-1"
# access_key_id = "env:HOT_KEY"            # a reference; by default the AWS SDK looks for credentials
# secret_access_key = "file:secrets/hot"   # relative to this file

# [storages.archive]
# url = "s3://my-archive"
# name = "acme.archive@v1"                 # the second storage of a class needs a name. Records contain it: never change it
# storage_class = "STANDARD_IA"

# [[routes]]                               # the first match wins, else the default
# content_type = "image/*"
# storage = "archive"

# [[routes]]
# tag = {{ tier = "cold" }}
# min_size = "64MiB"                       # streams of unknown size never match
# storage = "archive"

# [retired]                                # readable, never written
# storages = ["labox.aws.s3@v1 = hot"]
"""
