"""The tables `[storages.<key>]`: one model for each provider. A setting that is not given is the storage class's own.

The storage classes check values; here are only names, types and meanings, so that no SDK is imported for them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
)

from lakery_cloud.config.secrets import Secret
from lakery_cloud.engine.urls import check_endpoint_url, parse_url


def _names(value: Any) -> Any:
    """`a,b` of an environment variable as a list."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


Size = Annotated[ByteSize, Field(ge=1), AfterValidator(int)]
Names = Annotated[list[str], BeforeValidator(_names)]


def setting(meaning: str) -> Any:
    """A field that need not be given."""
    return Field(default=None, description=meaning)


class StorageSection(BaseModel):
    """What every storage can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    scheme: ClassVar[str]
    title: ClassVar[str]
    credential_names: ClassVar[tuple[str, ...]] = ()
    """Settings that become credentials."""

    url: str = Field(
        description="Storage class, bucket and prefix. Settings may stand in its query instead of the table."
    )
    name: str | None = setting(
        "Permanent name, of the form `<dotted.name>@v<N>`; two storages of one class need two. Records hold it: never "
        "change it once data is saved. By default that of the class."
    )
    part_size: Size | None = setting(
        "Bytes of a stream's first parts; a stream that fits into one part is sent in one request."
    )
    max_concurrent_parts: int | None = setting("Parts of one stream, or of one copy, that travel at a time.")
    max_concurrent_requests: int | None = setting("Requests of the storage under way at a time, reads apart.")
    max_concurrent_reads: int | None = setting("Bodies of the storage that are open at a time.")
    max_buffered_bytes: Size | None = setting(
        "Bytes that all streams being written may hold, and again for reads ahead."
    )
    concurrent_ranges: int | None = setting(
        "Ranges of one object that are read at a time; 1 is one plain GET. By default one GET, and ranges where it is slow."
    )
    range_size: Size | None = setting("Bytes of such a range.")
    verify: bool | None = setting("Whether reads compare content with its hash.")
    cleanup_timeout: float | None = setting("Seconds that the clean-up after a failure may take.")

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        options = {name: str for name in cls.model_fields if name not in ("url", "name", *cls.credential_names)}
        _, _, settings = parse_url(url, scheme=cls.scheme, options=options)
        if "endpoint_url" in settings:
            check_endpoint_url(settings["endpoint_url"])
        return url


class CloudSection(StorageSection):
    """What every cloud's storage can be told."""

    allowed_buckets: Names | None = setting(
        "Buckets besides its own that records may point to; by default any. In an environment variable `a,b`."
    )
    endpoint_url: str | None = setting("Where the API is, if not at the provider.")
    max_attempts: int | None = setting("Attempts for one request.")
    connect_timeout: float | None = setting("Seconds to wait for a connection.")
    read_timeout: float | None = setting("Seconds to wait for the next bytes of an answer.")
    fast_lane: bool | None = setting("Whether hot requests travel without the SDK; by default they do.")

    @field_validator("endpoint_url")
    @classmethod
    def _endpoint(cls, url: str | None) -> str | None:
        return check_endpoint_url(url) if url else url


class S3Section(CloudSection):
    """Amazon S3, or a store that speaks its API."""

    scheme = "s3"
    title = "Amazon S3"
    credential_names = ("access_key_id", "secret_access_key", "session_token")

    region: str | None = setting("Region of the bucket.")
    profile: str | None = setting("Profile of the AWS configuration files.")
    access_key_id: Secret | None = setting("With `secret_access_key`, instead of what the AWS SDK finds.")
    secret_access_key: Secret | None = setting("The key's secret.")
    session_token: Secret | None = setting("Beside them, where they are temporary.")
    addressing_style: Literal["path", "virtual", "auto"] | None = setting("Where the bucket stands in a request.")
    sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = setting(
        "Server-side encryption; by default the bucket decides."
    )
    kms_key_id: str | None = setting("Key of the encryption by KMS.")
    storage_class: str | None = setting("Storage class of the content, such as `STANDARD_IA`.")
    requester_pays: bool | None = setting("Whether the requester pays.")
    conditional_writes: bool | None = setting("Whether the endpoint honours `If-None-Match`.")


class GCSSection(CloudSection):
    """Google Cloud Storage."""

    scheme = "gs"
    title = "Google Cloud Storage"
    credential_names = ("token", "credentials_file", "credentials_json")

    project: str | None = setting("Project of the credentials.")
    token: Secret | None = setting(
        "An access token, or the name of a method of gcsfs: `google_default`, `cache`, `cloud`, `anon`."
    )
    credentials_file: str | None = setting(
        "Path of a file with credentials, such as a service account's; relative to the configuration's folder."
    )
    credentials_json: Secret | None = setting("What stands in such a file.")
    user_project: str | None = setting("Project that pays for requests to a bucket whose requester pays.")
    kms_key_name: str | None = setting("Key of the encryption by KMS; by default the bucket decides.")
    storage_class: str | None = setting("Storage class of the content, such as `NEARLINE`.")
    composite_uploads: bool | None = setting("Whether the parts of a stream travel side by side and are composed.")


class AzureSection(CloudSection):
    """Azure Blob Storage."""

    scheme = "az"
    title = "Azure Blob Storage"
    credential_names = ("account_key", "connection_string", "sas_token")

    account_name: str | None = setting("Name of the storage account.")
    account_key: Secret | None = setting("Key of the account.")
    connection_string: Secret | None = setting("Account, key and endpoint in one.")
    sas_token: Secret | None = setting("A shared access signature.")
    access_tier: Literal["Hot", "Cool", "Cold"] | None = setting("Access tier; by default the account decides.")
    blob_tags: bool | None = setting("Whether tags become blob index tags.")


class FileSection(StorageSection):
    """A folder."""

    scheme = "file"
    title = "Files"

    create: bool | None = setting("Whether the folder is made on the first write.")


class MemorySection(StorageSection):
    """Memory, for tests."""

    scheme = "memory"
    title = "Memory"


SECTIONS: tuple[type[StorageSection], ...] = (S3Section, GCSSection, AzureSection, FileSection, MemorySection)


def scheme_of(value: Any) -> str | None:
    """The scheme of a section's URL, by which its model is found."""
    url = value.get("url") if isinstance(value, Mapping) else getattr(value, "url", None)
    return url.partition("://")[0].lower() if isinstance(url, str) and "://" in url else None


Section = Annotated[
    Annotated[S3Section, Tag("s3")]
    | Annotated[GCSSection, Tag("gs")]
    | Annotated[AzureSection, Tag("az")]
    | Annotated[FileSection, Tag("file")]
    | Annotated[MemorySection, Tag("memory")],
    Discriminator(scheme_of),
]
