"""`S3Storage`: Amazon S3 and stores that speak its API, on aioboto3. The algorithm is the engine's."""

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NotRequired, TypedDict, Unpack
from urllib.parse import quote, urlencode

from lakery_cloud.engine.attributes import (
    METADATA_ALGORITHM,
    METADATA_HASH,
    ObjectAttributes,
    attributes_of_content,
)
from lakery_cloud.engine.bodies import Arriving
from lakery_cloud.engine.checksums import crc32c_header, header_to_hex, hex_to_header
from lakery_cloud.engine.cloud_storage import CloudStorage
from lakery_cloud.engine.error_messages import redact_error
from lakery_cloud.engine.keys import Address, KeySpace, is_temporary
from lakery_cloud.engine.lifecycle import LIFECYCLE_ATTEMPTS, check_only_temporary, not_kept
from lakery_cloud.engine.model import (
    Body,
    ConditionUnsupported,
    KeyMissing,
    Limits,
    ObjectInfo,
    PresignedURL,
    Receipt,
    Upload,
    UploadGone,
    without_none,
)
from lakery_cloud.engine.retries import backoff
from lakery_cloud.engine.settings import CloudOptions, read_flag
from lakery_cloud.engine.telemetry.operations import note_retries
from lakery_cloud.engine.transport import ABORT_ATTEMPTS, Transport
from lakery_cloud.errors import (
    AccessDenied,
    ConfigError,
    CredentialsError,
    LakeryCloudError,
    MissingDependency,
)
from lakery_cloud.http.connection import HTTPError, UnsupportedResponse
from lakery_cloud.http.headers import byte_range, read_content_range, time_of
from lakery_cloud.http.pool import Sockets
from lakery_cloud.storage import Digest
from lakery_cloud.streams.parts import Part
from lakery_cloud.streams.tasks import bounded_tasks

try:
    import aioboto3
    import aiobotocore.session
    import aiohttp
    import botocore.loaders
    from aiobotocore.config import AioConfig
    from botocore import exceptions as botocore_errors
    from botocore.handlers import add_expect_header

    from lakery_cloud.providers.s3.errors import (
        NO_CREDENTIALS,
        SDK_ERRORS,
        SET_CREDENTIALS,
        translate,
    )
    from lakery_cloud.providers.s3.requests import HOT, LaneSession, S3Lane
except ImportError as error:
    raise MissingDependency('S3Storage needs aioboto3: pip install "lakery-cloud[s3]"') from error

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MiB = 1024**2
GiB = 1024**3

# S3 User Guide, "Amazon S3 multipart upload limits", and API Reference, "PutObject" and "CopyObject".
S3_LIMITS = Limits(
    max_put_size=5 * GiB,
    min_part_size=5 * MiB,
    max_part_size=5 * GiB,
    max_parts=10_000,
    max_object_size=10_000 * 5 * GiB,
    max_copy_size=5 * GiB,
    copy_part_size=512 * MiB,
)

# Status -> the code that S3 gives with it, or with 503 where others give 429 (API Reference, "List of error codes").
_CODES = {408: "RequestTimeout", 429: "SlowDown"}

DELETES_AT_A_TIME = 16
"""Requests for one object each, where many at once could not be deleted."""
MAX_URL_LIFETIME = timedelta(days=7)
"""S3 User Guide, "Download and upload objects with presigned URLs"."""
MAX_RULE_ID = 255
"""Characters; S3 API Reference, "LifecycleRule"."""


class S3StorageData(TypedDict):
    """Storage data of `S3Storage`. What labox wrote has neither hash nor size."""

    bucket: str
    key: str
    hash: NotRequired[str]
    size: NotRequired[int]


class S3Storage(CloudStorage[S3StorageData]):
    """Content-addressed objects in a bucket of Amazon S3, or of a store that speaks its API.

    Credentials come from where aioboto3 finds them (environment, profile, instance role), or from a `session` or `client`
    of your own; they are never settings of the storage.

    Args:
        bucket: Name of the bucket. It must exist.
        prefix: What stands before each key.
        session: An `aioboto3.Session` to take credentials and region from.
        client: An open aioboto3 client to use as it is, with its own retries, time-outs and connections. It belongs to
            one event loop, and is not closed here.
        endpoint_url: Where the API is, for stores other than Amazon's.
        region: Region of the bucket.
        profile: Profile of the AWS configuration files.
        addressing_style: Whether the bucket stands in the path or in the host name. By default in the path where
            `endpoint_url` (or `AWS_ENDPOINT_URL_S3`) is set, else as the SDK decides.
        sse: Server-side encryption: `AES256`, `aws:kms` or `aws:kms:dsse`. By default the bucket decides.
        kms_key_id: Key of the server-side encryption by KMS.
        storage_class: Storage class of the content, such as `STANDARD_IA`. Temporary objects are always `STANDARD`.
        requester_pays: Whether the requester pays for requests and transfer.
        conditional_writes: Whether the endpoint honours `If-None-Match`. One that refuses the header is noticed; for one
            that silently ignores it set this to false, and the storage looks before it writes.
        options: See `CloudStorage` and `EngineSettings`.

    Raises:
        ConfigError: A setting is wrong, or two settings exclude each other.
    """

    name = "lakery_cloud.s3@v1"
    aliases = ("labox.aws.s3@v1", "lakery.aws.s3@v1")
    default_limits = S3_LIMITS
    bucket_attribute = "aws.s3.bucket"
    max_url_lifetime = MAX_URL_LIFETIME
    url_scheme = "s3"
    url_options: ClassVar = {
        **CloudStorage.cloud_url_options,
        "region": str,
        "profile": str,
        "addressing_style": str,
        "sse": str,
        "kms_key_id": str,
        "storage_class": str,
        "requester_pays": read_flag,
        "conditional_writes": read_flag,
    }
    pickles_with = "region, profile and endpoint_url"

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        session: "aioboto3.Session | None" = None,
        client: "S3Client | None" = None,
        endpoint_url: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        addressing_style: Literal["path", "virtual", "auto"] | None = None,
        sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None,
        kms_key_id: str | None = None,
        storage_class: str | None = None,
        requester_pays: bool = False,
        conditional_writes: bool = True,
        **options: Unpack[CloudOptions],
    ) -> None:
        super().__init__(bucket, prefix=prefix, endpoint_url=endpoint_url, **options)
        if client is not None and (session or endpoint_url or region or profile):
            raise ConfigError("a client has its own session, endpoint_url, region and profile; leave these out")
        if session is not None and profile is not None:
            raise ConfigError("a session has its own profile; leave profile out")
        if addressing_style not in (None, "path", "virtual", "auto"):
            raise ConfigError(f"addressing_style must be 'path', 'virtual' or 'auto', not {addressing_style!r}")
        if sse not in (None, "AES256", "aws:kms", "aws:kms:dsse"):
            raise ConfigError(f"sse must be 'AES256', 'aws:kms' or 'aws:kms:dsse', not {sse!r}")
        if kms_key_id is not None and not (sse or "").startswith("aws:kms"):
            raise ConfigError("kms_key_id needs sse='aws:kms' or sse='aws:kms:dsse'")
        self._own_session = session
        self._own_client = client
        self._region = region
        self._profile = profile
        self._addressing_style = addressing_style
        self._sse = sse
        self._kms_key_id = kms_key_id
        self._storage_class = storage_class
        self._requester_pays = requester_pays
        self._conditional_writes = conditional_writes

    def lifecycle_rules(self, days: int) -> Mapping[str, Any]:
        """What `aws s3api put-bucket-lifecycle-configuration` takes: temporary objects expire, unfinished uploads end.

        Uploads end below the whole prefix, since a copy past the largest of one request is an upload to a content key.
        Objects expire below the temporary root alone.

        Args:
            days: How many after they were begun. S3 counts to the midnight (UTC) after.
        """
        return {
            "Rules": [
                {
                    "ID": _rule_id("lakery-cloud temporary keys", self.keys),
                    "Status": "Enabled",
                    "Filter": {"Prefix": self.keys.temporary_root},
                    "Expiration": {"Days": days},
                },
                {
                    "ID": _rule_id("lakery-cloud incomplete uploads", self.keys),
                    "Status": "Enabled",
                    "Filter": {"Prefix": self.keys.root},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": days},
                },
            ]
        }

    @classmethod
    def credentials_from(cls, secrets: Mapping[str, str]) -> dict[str, Any]:
        """`access_key_id` and `secret_access_key`, with `session_token` where they are temporary, as a session."""
        if not secrets:
            return {}
        if not {"access_key_id", "secret_access_key"} <= set(secrets):
            raise ConfigError("access_key_id and secret_access_key go together; give both of them")
        keys = {f"aws_{name}": value for name, value in secrets.items()}
        return {"session": _session(None, **keys)}

    def _credential_source(self) -> str:
        if self._profile is None and os.environ.get("AWS_ACCESS_KEY_ID"):
            return "AWS_ACCESS_KEY_ID in the environment"
        session = aiobotocore.session.AioSession(profile=self._profile)
        name = session.get_config_variable("profile") or "default"
        settings = session.full_config["profiles"].get(name, {})
        if any(setting in settings for setting in _CREDENTIAL_SETTINGS):
            return f"profile {name!r} of the AWS configuration files"
        for variable in _CREDENTIAL_VARIABLES:
            if os.environ.get(variable):
                return f"{variable} in the environment"
        return "the instance's role, if it has one"

    def _has_secrets(self) -> bool:
        return self._own_session is not None or self._own_client is not None

    @asynccontextmanager
    async def _open_transport(self) -> AsyncGenerator[Transport]:
        if self._own_client is not None:
            yield S3Transport(self._own_client, self)
            return
        try:
            session = self._own_session or _session(self._profile)
            sockets = self._sockets()
            opening = session.client(
                "s3", region_name=self._region, endpoint_url=self.endpoint_url, config=self._client_config(sockets)
            )
            async with opening as client:
                client.meta.events.register("response-received.s3", _name_by_status)
                client.meta.events.register("request-created.s3", _note_retry)
                # Who asks whether to send a body waits for ever where the answer never comes.
                client.meta.events.unregister("before-call.s3", add_expect_header)
                lane = await self._open_lane(session, sockets)
                try:
                    yield S3Transport(client, self, lane)
                finally:
                    if lane is not None:
                        lane.close()
        except botocore_errors.ProfileNotFound as error:
            raise ConfigError(f"{error}; see the profiles with `aws configure list-profiles`") from error
        except NO_CREDENTIALS as error:
            raise CredentialsError(
                f"no credentials for {self.keys.bucket!r}: {redact_error(error)}. {SET_CREDENTIALS}"
            ) from error

    async def _open_lane(self, session: aioboto3.Session, sockets: Sockets) -> S3Lane | None:
        credentials = await session.get_credentials() if self.fast_lane else None
        if credentials is None:
            return None
        return S3Lane(
            credentials=credentials,
            sockets=sockets,
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
        )

    def _client_config(self, sockets: Sockets) -> AioConfig:
        has_endpoint = self.endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return AioConfig(
            signature_version="s3v4",
            s3={
                "addressing_style": self._addressing_style or ("path" if has_endpoint else "auto"),
                # The signature covers the checksum that each body travels with; hashing it again tells nothing more.
                "payload_signing_enabled": False,
            },
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": self.max_attempts},
            connect_timeout=self.connect_timeout,
            read_timeout=self.read_timeout,
            max_pool_connections=self.settings.connections,
            http_session_cls=type("Session", (LaneSession,), {"sockets": sockets}),
        )


# The description of S3's API takes longest to load when a client is made; it is the same for all of ours.
_api_descriptions = botocore.loaders.create_loader()


# What a profile has that leads to credentials, and what leads to them elsewhere (AWS SDKs and Tools Reference Guide,
# "Standardized credential providers").
_CREDENTIAL_SETTINGS = (
    *("aws_access_key_id", "role_arn", "sso_session", "sso_start_url", "login_session", "credential_process"),
    "web_identity_token_file",
)
_CREDENTIAL_VARIABLES = (
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)


def _session(profile: str | None, **keys: str) -> aioboto3.Session:
    session = aiobotocore.session.AioSession(profile=profile)
    session.register_component("data_loader", _api_descriptions)
    return aioboto3.Session(botocore_session=session, **keys)


def _name_by_status(parsed_response: dict[str, Any] | None = None, **_: Any) -> None:
    """Name errors by their status where the SDK tries again by name alone: answers to HEAD have none."""
    if parsed_response is not None:
        code = _CODES.get(parsed_response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
        if code is not None:
            parsed_response.setdefault("Error", {})["Code"] = code


def _note_retry(request: Any, **_: Any) -> None:
    """Tell of attempts after the first, of which only the SDK knows."""
    if request.context.get("retries", {}).get("attempt", 1) > 1:
        note_retries()


def _rule_id(purpose: str, keys: KeySpace) -> str:
    """The name of a rule, another one for each prefix; permanent, since by it the rule is found again."""
    rule_id = f"{purpose} below /{quote(keys.prefix)}"
    if len(rule_id) > MAX_RULE_ID:
        rule_id = f"{purpose} below {hashlib.sha256(keys.prefix.encode()).hexdigest()}"
    return rule_id


class S3Transport(Transport):
    """The requests of S3's API. Each docstring of the base class says what a method promises."""

    max_deletes = 1000  # API Reference, "DeleteObjects"

    def __init__(self, client: "S3Client", storage: S3Storage, lane: S3Lane | None = None) -> None:
        super().__init__(**storage.settings.share(client.meta.config.max_pool_connections))
        self._lane = lane
        self.conditional_writes = storage._conditional_writes
        self._client = client
        self._endpoint = client.meta.endpoint_url
        self._payer = {"RequestPayer": "requester"} if storage._requester_pays else {}
        self._encryption = without_none(ServerSideEncryption=storage._sse, SSEKMSKeyId=storage._kms_key_id)
        self._storage_class = without_none(StorageClass=storage._storage_class)

    def checks_hash(self, algorithm: str) -> bool:
        return algorithm == "sha256"

    async def put(self, address: Address, data: bytes, attributes: ObjectAttributes) -> None:
        await self._call(
            "put_object",
            address,
            Body=(data,),
            **_headers(attributes),
            **_sha256(attributes),
            **self._create_only(),
            **self._encryption,
            **self._storage_class,
        )

    async def head(self, address: Address) -> ObjectInfo | None:
        try:
            return _info(address, await self._call("head_object", address, ChecksumMode="ENABLED"))
        except KeyMissing:
            return None

    async def has_bucket(self, bucket: str) -> bool:
        try:
            await self._client.head_bucket(Bucket=bucket)
        except botocore_errors.ClientError as error:
            # 301 and 403 are answers about a bucket that is there.
            return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] != 404)
        except SDK_ERRORS as error:
            raise self._translate(error, "head_bucket", Address(bucket, "")) from error
        return True

    @asynccontextmanager
    async def get(
        self, address: Address, *, start: int = 0, stop: int | None = None, version: str | None = None
    ) -> AsyncGenerator[Body]:
        async with self.reads:
            wanted = without_none(Range=byte_range(start, stop), IfMatch=version)
            answer = await self._request("get_object", address, **wanted)
            body = answer["Body"]
            first, _ = read_content_range(answer.get("ContentRange"), size=answer["ContentLength"])
            try:
                yield Body(_info(address, answer), Arriving(body.read, interruptions=_INTERRUPTIONS), first)
            finally:
                # A body that is not closed keeps its connection out of the pool.
                body.close()

    async def delete(self, address: Address) -> None:
        await self._call("delete_object", address)

    async def delete_all(self, bucket: str, keys: Sequence[str]) -> None:
        left = set(keys)
        if len(keys) > 1:
            wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
            # Not every store knows this, and each may keep some: why, it says when it is asked for one.
            with suppress(LakeryCloudError):
                answer = await self._call_bucket(
                    "delete_objects", Address(bucket, keys[0]), Delete=wanted, **self._payer
                )
                left &= {error["Key"] for error in answer.get("Errors", ())}
        async with bounded_tasks(DELETES_AT_A_TIME) as tasks:
            for key in left:
                await tasks.start(self.delete(Address(bucket, key)))

    async def list(self, bucket: str, root: str) -> AsyncIterator[ObjectInfo]:
        token: dict[str, str] = {}
        while True:
            page = await self._call("list_objects_v2", Address(bucket, root), Prefix=root, Delimiter="/", **token)
            for entry in page.get("Contents", ()):
                yield ObjectInfo(
                    Address(bucket, entry["Key"]), entry["Size"], entry["ETag"], modified=entry["LastModified"]
                )
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    async def tags(self, address: Address) -> Mapping[str, str]:
        answer = await self._call("get_object_tagging", address)
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}

    async def begin_upload(self, address: Address, attributes: ObjectAttributes, *, is_temporary: bool) -> Upload:
        answer = await self._call(
            "create_multipart_upload",
            address,
            ChecksumAlgorithm="CRC32C",
            **_headers(attributes),
            **self._encryption,
            **({} if is_temporary else self._storage_class),
        )
        upload = Upload(address, answer["UploadId"], attributes, is_temporary)
        if answer["ResponseMetadata"].get("RetryAttempts"):
            # An attempt whose answer was lost may have begun an upload of its own. Who may not list leaves it to a
            # lifecycle rule: the write itself goes on.
            with suppress(AccessDenied):
                await self._abort_all(address, but=upload.id)
        return upload

    async def upload_part(self, upload: Upload, part: Part) -> Receipt:
        checksum = await crc32c_header(*part.pieces)
        answer = await self._call(
            "upload_part",
            upload.address,
            UploadId=upload.id,
            PartNumber=part.number,
            Body=part.pieces,
            ChecksumCRC32C=checksum,
        )
        return Receipt(part.number, answer["ETag"], checksum)

    async def copy_part(self, upload: Upload, number: int, source: ObjectInfo, start: int, stop: int) -> Receipt:
        answer = await self._call(
            "upload_part_copy",
            upload.address,
            UploadId=upload.id,
            PartNumber=number,
            CopySourceRange=f"bytes={start}-{stop - 1}",
            **_copy_source(source),
        )
        result = answer["CopyPartResult"]
        return Receipt(number, result["ETag"], result.get("ChecksumCRC32C"))

    async def complete_upload(
        self, upload: Upload, receipts: Sequence[Receipt], *, size: int, create_only: bool
    ) -> None:
        parts = [
            without_none(PartNumber=receipt.number, ETag=receipt.etag, ChecksumCRC32C=receipt.checksum)
            for receipt in receipts
        ]
        await self._call(
            "complete_multipart_upload",
            upload.address,
            UploadId=upload.id,
            MultipartUpload={"Parts": parts},
            MpuObjectSize=size,
            **(self._create_only() if create_only else {}),
        )

    async def abort_upload(self, address: Address, upload: Upload | None) -> None:
        if upload is None:
            await self._abort_all(address)
            return
        for _ in range(ABORT_ATTEMPTS):
            try:
                await self._call("abort_multipart_upload", address, UploadId=upload.id)
            except UploadGone:
                return
            try:
                left = await self._call("list_parts", address, UploadId=upload.id, MaxParts=1)
            except (UploadGone, AccessDenied):
                return
            if not left.get("Parts"):
                return

    async def list_uploads(self, bucket: str, root: str) -> AsyncIterator[Upload]:
        token: dict[str, str] = {}
        while True:
            try:
                page = await self._call("list_multipart_uploads", Address(bucket, root), Prefix=root, **token)
            except UploadGone:  # so rclone says that there are none
                return
            for entry in page.get("Uploads", ()):
                yield Upload(
                    Address(bucket, entry["Key"]),
                    entry["UploadId"],
                    ObjectAttributes("", None, {}, {}),
                    is_temporary(entry["Key"]),
                    entry["Initiated"],
                )
            if not page.get("IsTruncated"):
                return
            token = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    async def server_time(self, bucket: str) -> datetime | None:
        try:
            answer: Mapping[str, Any] = await self._client.head_bucket(Bucket=bucket)
        except botocore_errors.ClientError as error:
            answer = error.response
        except SDK_ERRORS as error:
            raise self._translate(error, "head_bucket", Address(bucket, "")) from error
        return time_of(answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date"))

    def credentials_in_use(self) -> str | None:
        credentials = self._client._request_signer._credentials  # a client of the user's has them nowhere else
        method = getattr(credentials, "method", None)
        return _SOURCES.get(method, f"the SDK's source {method!r}") if credentials else None

    async def put_damaged(self, address: Address) -> bool:
        checksum = hex_to_header(hashlib.sha256(b"other").hexdigest())
        await self._call("put_object", address, Body=(b"bytes",), ChecksumSHA256=checksum)
        return True

    async def presign(
        self, address: Address, *, method: str, expires: timedelta, content: Digest | None
    ) -> PresignedURL:
        parameters: dict[str, Any] = {"Bucket": address.bucket, "Key": address.key, **self._payer}
        if content is not None:
            parameters |= self._content_parameters(content)
        operation = "get_object" if content is None else "put_object"
        try:
            url = await self._client.generate_presigned_url(
                operation, Params=parameters, ExpiresIn=int(expires.total_seconds())
            )
        except (botocore_errors.ClientError, *SDK_ERRORS) as error:
            raise self._translate(error, f"presigning {operation}", address) from error
        headers = self._header_names(operation, parameters)
        return PresignedURL(method, url, headers, datetime.now(UTC) + expires, pins_content=content is not None)

    def _content_parameters(self, content: Digest) -> dict[str, Any]:
        """What a PUT of content by a URL must say, all of it signed: the store then takes nothing but the content."""
        if content["content_hash_algorithm"] != "sha256":
            raise ConfigError(
                f"a URL can't pin content whose hash is a {content['content_hash_algorithm']}: S3 checks sha256 alone"
            )
        attributes = attributes_of_content(content, {})
        return {
            **_headers(attributes),
            **_sha256(attributes),
            **self._create_only(),
            **self._encryption,
            **self._storage_class,
        }

    def _header_names(self, operation: str, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Parameters of an operation as the headers that they travel in."""
        shape = self._client.meta.service_model.operation_model(_API_NAMES[operation]).input_shape
        assert shape is not None
        headers: dict[str, str] = {}
        for name, value in parameters.items():
            serialization = shape.members[name].serialization
            if serialization.get("location") == "header":
                headers[serialization["name"]] = value
            elif serialization.get("location") == "headers":
                headers |= {f"{serialization['name']}{key}": text for key, text in value.items()}
        return headers

    async def apply_lifecycle(self, keys: KeySpace, rules: Mapping[str, Any]) -> bool:
        # S3 knows no condition for this: what somebody else sets between our two requests is lost.
        ours = rules["Rules"]
        address = Address(keys.bucket, keys.temporary_root)
        there, options = await self._lifecycle(address)
        if _has_rules(there, ours):
            return False
        await check_only_temporary(self, keys)
        names = {rule["ID"] for rule in ours}
        others = [rule for rule in there if rule.get("ID") not in names]
        await self._put_lifecycle(address, [*others, *ours], options)
        for attempt in range(1, LIFECYCLE_ATTEMPTS + 1):
            shown, _ = await self._lifecycle(address)
            if _has_rules(shown, ours):
                return True
            if _has_other_filters(shown, ours):
                await self._put_lifecycle(address, there, options)
                raise ConfigError(
                    f"the store at {self._endpoint} does not keep the filters of lifecycle rules, so that content could "
                    "expire; the rules that were there before were put back. Run `lakery-cloud sweep` instead"
                )
            await asyncio.sleep(backoff(attempt))
        raise not_kept(keys.bucket)

    async def _lifecycle(self, address: Address) -> tuple[Sequence[Mapping[str, Any]], Mapping[str, Any]]:
        """The rules of a bucket, and what else a request must say so that it changes nothing but rules."""
        try:
            answer = await self._call_bucket("get_bucket_lifecycle_configuration", address)
        except KeyMissing:
            return [], {}
        size = answer.get("TransitionDefaultMinimumObjectSize")
        return answer.get("Rules", []), without_none(TransitionDefaultMinimumObjectSize=size)

    async def _put_lifecycle(
        self, address: Address, rules: Sequence[Mapping[str, Any]], options: Mapping[str, Any]
    ) -> None:
        if not rules:  # a configuration must have one
            await self._call_bucket("delete_bucket_lifecycle", address)
            return
        await self._call_bucket(
            "put_bucket_lifecycle_configuration", address, LifecycleConfiguration={"Rules": rules}, **options
        )

    async def copy(self, source: ObjectInfo, address: Address, attributes: ObjectAttributes) -> ObjectInfo | None:
        sha256 = attributes.metadata.get(METADATA_ALGORITHM) == "sha256"
        answer = await self._call(
            "copy_object",
            address,
            MetadataDirective="REPLACE",
            TaggingDirective="REPLACE",
            **_copy_source(source),
            **_headers(attributes),
            **({"ChecksumAlgorithm": "SHA256"} if sha256 else {}),
            **self._create_only(),
            **self._encryption,
            **self._storage_class,
        )
        result = answer["CopyObjectResult"]
        return ObjectInfo(address, source.size, result["ETag"], _content_hash(result))

    def _create_only(self) -> dict[str, str]:
        return {"IfNoneMatch": "*"} if self.conditional_writes else {}

    async def _abort_all(self, address: Address, *, but: str | None = None) -> None:
        async for upload in self.list_uploads(address.bucket, address.key):
            if upload.address == address and upload.id != but:
                await self.abort_upload(address, upload)

    async def _call(self, operation: str, address: Address, **parameters: Any) -> dict[str, Any]:
        async with self.requests:
            return await self._request(operation, address, **parameters)

    async def _call_bucket(self, operation: str, address: Address, **parameters: Any) -> dict[str, Any]:
        """One operation on the bucket itself; the key is for messages."""
        async with self.requests:
            try:
                answer: dict[str, Any] = await getattr(self._client, operation)(Bucket=address.bucket, **parameters)
            except (botocore_errors.ClientError, *SDK_ERRORS) as error:
                raise self._translate(error, operation, address) from error
            return answer

    async def _request(self, operation: str, address: Address, **parameters: Any) -> dict[str, Any]:
        """One operation of the SDK, its errors translated."""
        target = {} if "Prefix" in parameters else {"Key": address.key}
        parameters = {"Bucket": address.bucket, **target, **self._payer, **parameters}

        async def ask() -> dict[str, Any]:
            body = without_none(Body=b"".join(parameters["Body"]) if "Body" in parameters else None)
            answer: dict[str, Any] = await getattr(self._client, operation)(**{**parameters, **body})
            return answer

        try:
            if self._lane is not None and operation in HOT:
                answer: dict[str, Any] = await self._lane.call(operation, address.bucket, parameters, ask=ask)
            else:
                answer = await ask()
        except (botocore_errors.ClientError, *SDK_ERRORS) as error:
            raise self._translate(error, operation, address) from error
        return answer

    def _translate(self, error: Exception, operation: str, address: Address) -> Exception:
        """The engine's word for an error."""
        translated = translate(
            error, operation, address, endpoint=self._endpoint, conditional_writes=self.conditional_writes
        )
        if isinstance(translated, ConditionUnsupported):
            self.conditional_writes = False
        return translated


_INTERRUPTIONS = (*SDK_ERRORS, aiohttp.ClientError, HTTPError, UnsupportedResponse)

_API_NAMES = {"get_object": "GetObject", "put_object": "PutObject"}

# What botocore calls the places where it found credentials ("Credentials" in the boto3 documentation).
_SOURCES: Mapping[str | None, str] = {
    "env": "the environment variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "explicit": "a session or client of your own",
    "shared-credentials-file": "the AWS credentials file",
    "config-file": "the AWS configuration file",
    "assume-role": "a role of the AWS configuration file",
    "assume-role-with-web-identity": "a web identity token (AWS_WEB_IDENTITY_TOKEN_FILE)",
    "sso": "AWS single sign-on",
    "custom-process": "the credential process of the AWS configuration file",
    "container-role": "the role of the container",
    "iam-role": "the role of the instance",
}


def _has_rules(there: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each of our rules is there as it should be."""
    return all(rule in [{**each, "Filter": _filter(each)} for each in there] for rule in ours)


def _has_other_filters(there: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of our rules is there, but for other keys."""
    filters = {rule["ID"]: rule["Filter"] for rule in ours}
    return any(_filter(rule) != filters.get(rule.get("ID"), _filter(rule)) for rule in there)


def _filter(rule: Mapping[str, Any]) -> dict[str, Any]:
    """The filter of a rule; one without a prefix is for all keys."""
    return {"Prefix": "", **rule.get("Filter", {})}


def _headers(attributes: ObjectAttributes) -> dict[str, Any]:
    return without_none(
        ContentType=attributes.content_type,
        ContentEncoding=attributes.content_encoding,
        Metadata=dict(attributes.metadata) or None,
        Tagging=urlencode(attributes.tags) or None,
    )


def _sha256(attributes: ObjectAttributes) -> dict[str, str]:
    """The content hash as the checksum that S3 checks the body against."""
    if attributes.metadata[METADATA_ALGORITHM] != "sha256":
        return {}
    return {"ChecksumSHA256": hex_to_header(attributes.metadata[METADATA_HASH])}


def _copy_source(source: ObjectInfo) -> dict[str, Any]:
    return without_none(
        CopySource={"Bucket": source.address.bucket, "Key": source.address.key}, CopySourceIfMatch=source.version
    )


def _info(address: Address, answer: Mapping[str, Any]) -> ObjectInfo:
    _, size = read_content_range(answer.get("ContentRange"), size=answer["ContentLength"])
    return ObjectInfo(
        address,
        size,
        answer["ETag"],
        _content_hash(answer),
        answer.get("ContentType"),
        answer.get("ContentEncoding"),
        answer.get("LastModified"),
        answer.get("Metadata", {}),
    )


def _content_hash(answer: Mapping[str, Any]) -> str | None:
    """The SHA-256 of a whole object; S3 marks a checksum of checksums by `-<parts>` at its end."""
    checksum = answer.get("ChecksumSHA256")
    return None if not checksum or "-" in checksum else f"sha256:{header_to_hex(checksum)}"
