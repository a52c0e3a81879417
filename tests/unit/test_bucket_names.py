"""Names of buckets: what each cloud may have is accepted unchanged, all else is refused before a storage exists."""

import re
import string
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from azure.storage.blob import BlobServiceClient
from botocore.handlers import VALID_BUCKET, VALID_S3_ARN
from gcsfs import GCSFileSystem
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakery_cloud import AzureBlobStorage, ConfigError, GCSStorage, S3Storage, storage_from_url
from lakery_cloud.config.building import load_registry

pytestmark = pytest.mark.case("63")

relaxed = settings(deadline=None)

CLOUDS: tuple[Any, ...] = (S3Storage, GCSStorage, AzureBlobStorage)

ACCOUNT = "arn:aws:s3:eu-west-1:123456789012"
VALID = {
    S3Storage: (
        "bucket",
        "my.bucket-1",
        "Legacy_Bucket",
        "_a..b",
        "b" * 255,
        "data--use1-az4--x-s3",
        "point-1a2b3c-s3alias",
        f"{ACCOUNT}:accesspoint/reports",
        f"{ACCOUNT}:accesspoint:reports",
        "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
        "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint/reports",
        "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-0123/accesspoint/reports",
        "tenant:bucket",
        ":bucket",
        "d49b125f138b4dd9b225925950e638bc:my_bucket",
    ),
    GCSStorage: ("bucket", "my_bucket-1", "www.example.com", "b" * 63, ".".join(["b" * 54] * 4)),
    AzureBlobStorage: ("container", "a-b-1", "1", "c" * 63, "$root", "$web", "$logs"),
}

# No cloud has these.
IMPOSSIBLE = (
    ".",
    "..",
    "/",
    "b/",
    "/b",
    "b/sub",
    "b//",
    "../b",
    "b/..",
    "b\\sub",
    " ",
    " b",
    "b ",
    "a b",
    "b\n",
    "b\t",
    "b\0",
    "b\x7f",
    "b\u2028",
    "b\ud800",
    "b?x",
    "b#x",
    "b%2Fsub",
    "b%",
    "b@host",
    "b&c",
    "b=c",
    "b+c",
    "b,c",
    "b;c",
    "b*",
    "b|c",
    "b<c>",
    "[::1]",
    "'b'",
    "bücket",
    "ｂ",
    "s3://b",
    "gs://b",
    "az://b",
    "https://s3.example.com/b",
    "127.0.0.1",
    "127.0.0.1:9000",
    "localhost:9000",
    "a" * 256,
    "arn:aws:s3:::bucket",
    "arn:aws:s3:::bucket/key",
    "arn:aws:iam::123456789012:role/writer",
    "arn:aws:s3:eu-west-1:123456789012:accesspoint/reports/object/key",
    "a:b:c",
    "b:",
)
IMPOSSIBLE_AT = {
    S3Storage: ("b$", "$root", "arn:aws:s3:eu-west-1:12345:accesspoint/reports"),
    GCSStorage: (
        *(
            "B",
            "Bucket",
            "-b",
            "b-",
            "_b",
            "b_",
            ".b",
            "b.",
            "a..b",
            "a.-b",
            "b" * 64,
            ".".join(["b" * 60] * 4),
            "$root",
        ),
        *VALID[S3Storage][-8:],
    ),
    AzureBlobStorage: (
        *(
            "C",
            "Container",
            "-c",
            "c-",
            "a--b",
            "a_b",
            "a.b",
            "c" * 64,
            "$",
            "$other",
            "root$",
            "account.blob.core.windows.net",
        ),
        *VALID[S3Storage][-8:],
    ),
}


def in_url(name: str) -> str:
    return quote(name, safe="", errors="surrogatepass")


@pytest.mark.parametrize(("cloud", "name"), [(cloud, name) for cloud in CLOUDS for name in VALID[cloud]])
def test_valid_name_is_kept_unchanged(cloud: Any, name: str) -> None:
    for storage in (cloud(name), storage_from_url(f"{cloud.url_scheme}://{in_url(name)}?part_size=8388608")):
        assert storage.keys.content("0" * 64).bucket == name


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("name", [*IMPOSSIBLE, None, 5, b"bucket", ["bucket"], pytest])
def test_what_is_no_name_anywhere_is_refused(cloud: Any, name: Any) -> None:
    with pytest.raises(ConfigError, match=rf"is no name of a {cloud.settings_class.bucket_names.setting}: "):
        cloud(name)


@pytest.mark.parametrize(("cloud", "name"), [(cloud, name) for cloud in CLOUDS for name in IMPOSSIBLE_AT[cloud]])
def test_what_is_no_name_on_one_cloud_is_refused_there(cloud: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=r"is no name of a (bucket|container): "):
        cloud(name)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_urls_and_configuration_files_pass_the_same_rules(cloud: Any, tmp_path: Any) -> None:
    urls = [f"{cloud.url_scheme}://{in_url(name)}/prefix" for name in IMPOSSIBLE]
    for url in urls:
        with pytest.raises(ConfigError):
            storage_from_url(url)
    file = tmp_path / "lakery-cloud.toml"
    for url in urls[::5]:
        file.write_text(f"[storages.main]\nurl = '{url}'\n")
        with pytest.raises(ConfigError):
            load_registry(file)


@pytest.mark.parametrize(
    ("cloud", "name", "advice"),
    [
        *((cloud, "b/sub", "Give what follows the slash as `prefix`") for cloud in CLOUDS),
        *((cloud, "gs://b", "or the URL to `storage_from_url`") for cloud in CLOUDS),
        *((cloud, " b", "Remove the white space") for cloud in CLOUDS),
        *((cloud, "10.0.0.1", "as `endpoint_url`") for cloud in CLOUDS),
        *((cloud, "minio.example.com:9000", "as `endpoint_url`") for cloud in CLOUDS),
        (S3Storage, "arn:aws:s3:::bucket", "Give the bucket's name, which follows `:::`"),
        (S3Storage, "arn:aws:iam::123456789012:role/writer", "or the ARN of an access point"),
        (AzureBlobStorage, "account.blob.core.windows.net", "Give the account as `account_name`"),
    ],
)
def test_message_says_what_to_do(cloud: Any, name: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(advice)):
        cloud(name)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(
    "name", ["s3://AKIA:{}@bucket", "{}@bucket", "c?sv=2024-11-04&sig={}", "AKIA:{}:x", "user%3A{}"]
)
def test_message_repeats_no_credentials(cloud: Any, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cloud(name.format("wJalrXUtnFEMI"))
    assert "wJalrXUtnFEMI" not in f"{caught.value!r}{caught.value.__cause__!r}{caught.value.__context__!r}"


def test_root_container_has_no_prefix() -> None:
    with pytest.raises(ConfigError, match=r"\$root.*has no slash.*prefix"):
        AzureBlobStorage("$root", prefix="reports")


# Generated names.


def words(characters: str, longest: int) -> st.SearchStrategy[str]:
    return st.text(characters, min_size=1, max_size=longest)


LOWER = string.ascii_lowercase + string.digits
GENERATED = {
    S3Storage: words(string.ascii_letters + string.digits + "._-", 255),
    GCSStorage: st.lists(
        st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True), min_size=1, max_size=9
    ).map(".".join),
    AzureBlobStorage: st.lists(words(LOWER, 12), min_size=1, max_size=4).map("-".join),
}
ANYTHING = st.one_of(
    st.text(max_size=80),
    words(string.ascii_letters + string.digits + "$._-:/?#[]@!&'()*+,;=%\\ \n", 12),
    st.sampled_from(IMPOSSIBLE),
)


@pytest.mark.parametrize("cloud", CLOUDS)
@relaxed
@given(data=st.data())
def test_names_by_the_rules_are_accepted(cloud: Any, data: st.DataObject) -> None:
    is_address = re.compile(r"\.{1,2}|\d{1,3}(\.\d{1,3}){3}").fullmatch
    name = data.draw(GENERATED[cloud].filter(lambda name: not is_address(name)))
    assert cloud(name).keys.bucket == name
    assert storage_from_url(f"{cloud.url_scheme}://{name}").keys.bucket == name


def sdk_of_s3(name: str) -> str | None:
    is_tenant = re.fullmatch(r"[\w-]*:[\w.-]+", name, re.ASCII)  # which the SDK itself refuses
    return name if VALID_BUCKET.search(name) or VALID_S3_ARN.search(name) or is_tenant else None


def sdk_of_gcs(name: str) -> str | None:
    bucket, key, generation = GCSFileSystem._split_path(f"{name}/key")
    return bucket if (key, generation) == ("key", None) else None


def sdk_of_azure(name: str) -> str | None:
    blob = BlobServiceClient("https://account.blob.core.windows.net").get_blob_client(name, "key")
    return urlsplit(blob.url).path.removeprefix("/").removesuffix("/key") if blob.container_name == name else None


@pytest.mark.parametrize(
    ("cloud", "read"), [(S3Storage, sdk_of_s3), (GCSStorage, sdk_of_gcs), (AzureBlobStorage, sdk_of_azure)]
)
@relaxed
@given(name=ANYTHING)
@example(name="..")
@example(name="a:b")
def test_accepted_name_means_the_same_to_urls_and_the_sdk(cloud: Any, read: Any, name: str) -> None:
    try:
        storage = cloud(name)
    except ConfigError:
        return
    assert storage.keys.bucket == name
    assert read(name) == name
    if not name.startswith("arn:"):
        parts = urlsplit(f"https://host/{name}/key?query")
        assert (parts.hostname, parts.path, parts.query) == ("host", f"/{name}/key", "query")
        assert name not in (".", "..")
    assert storage_from_url(f"{cloud.url_scheme}://{in_url(name)}/a").keys.bucket == name
