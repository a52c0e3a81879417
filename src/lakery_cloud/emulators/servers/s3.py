"""The common base of local S3 servers: credentials, buckets and settings."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

from lakery_cloud.emulators.emulator import Emulator, check_bucket_name
from lakery_cloud.emulators.system import EmulatorError
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import MissingDependency


class S3Emulator(Emulator):
    """A server that speaks S3's API.

    Attributes:
        access_key_id: An access key that the server accepts.
        secret_access_key: Its secret.
        region: The region for clients.
    """

    api: ClassVar[str] = "S3"
    url_scheme: ClassVar[str] = "s3"
    access_key_id: str = "test"
    secret_access_key: str = "testtest"  # noqa: S105, accepted by local servers only
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,  # the name that botocore reads
        }

    def settings(self, bucket: str) -> Mapping[str, str]:
        return {
            "url": f"s3://{bucket}",
            "endpoint_url": self.endpoint_url,
            "region": self.region,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
        }

    def storage(self, bucket: str, **options: Any) -> ObjectStorage[Any]:
        from lakery_cloud.providers.s3.storage import S3Storage

        keys = {"access_key_id": self.access_key_id, "secret_access_key": self.secret_access_key}
        session = S3Storage.credentials_from(keys)["session"]
        return S3Storage(bucket, session=session, endpoint_url=self.endpoint_url, region=self.region, **options)

    def make_bucket(self, bucket: str) -> None:
        client = self._client()
        try:
            client.create_bucket(Bucket=check_bucket_name(bucket))
        except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            return
        except client.exceptions.ClientError as error:
            raise EmulatorError(f"{self.name} could not create the bucket {bucket!r}: {error}") from error

    def remove_bucket(self, bucket: str) -> None:
        client = self._client()
        try:
            for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()):
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            # Always list the first page, since LocalStack omits keys from later ones.
            while found := client.list_objects_v2(Bucket=bucket).get("Contents"):
                objects = [{"Key": each["Key"]} for each in found]
                client.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
            client.delete_bucket(Bucket=bucket)
        except client.exceptions.NoSuchBucket:
            return
        except client.exceptions.ClientError as error:
            raise EmulatorError(f"{self.name} could not delete the bucket {bucket!r}: {error}") from error

    def _client(self) -> Any:
        return _client(self.endpoint_url, self.access_key_id, self.secret_access_key, self.region)


@functools.lru_cache(maxsize=8)
def _client(endpoint_url: str, access_key_id: str, secret_access_key: str, region: str) -> Any:
    """Return a cached client, since creating one is slow."""
    try:
        import botocore.session
        from botocore.config import Config
    except ImportError as error:
        raise MissingDependency(
            'botocore, which creates buckets, is not installed: pip install "lakery-cloud[s3]" or '
            '"lakery-cloud[aiobotocore]"'
        ) from error
    return botocore.session.Session().create_client(
        "s3",
        region_name=region,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        endpoint_url=endpoint_url,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}, proxies={}),
    )
