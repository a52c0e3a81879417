"""Keys, prefixes, tags and URLs: which are accepted, and that no message repeats a secret."""

import hashlib
import re
import string
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakery_cloud import (
    ConfigError,
    FileStorage,
    InvalidTags,
    MemoryStorage,
    S3Storage,
    storage_from_url,
)
from lakery_cloud.engine.attributes import check_tags
from lakery_cloud.engine.keys import (
    MAX_KEY_BYTES,
    STAMP_FORMAT,
    KeySpace,
    check_prefix,
)
from lakery_cloud.engine.settings import EngineSettings, read_flag
from lakery_cloud.engine.urls import check_endpoint_url, parse_url

relaxed = settings(deadline=None)

HASH = hashlib.sha256(b"content").hexdigest()
TAG_CHARACTERS = string.ascii_letters + string.digits + " +-./:=_"
TAG_TEXT = st.text(TAG_CHARACTERS, max_size=256)
TAG_KEYS = st.text(TAG_CHARACTERS, min_size=1, max_size=128).filter(lambda key: not key.lower().startswith("aws:"))

# Segments that every provider can hold: no control characters, no surrogates, nothing that HTTP libraries resolve.
SEGMENTS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\ufffe\uffff"), min_size=1, max_size=30
).filter(lambda text: text not in (".", ".."))
PREFIXES = st.lists(SEGMENTS, min_size=1, max_size=5).map("/".join)


def temporary_name(key):
    return re.fullmatch(
        r"\.tmp/(\d{8}T\d{6}Z)-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", key
    )


# Keys.


@relaxed
@given(PREFIXES)
def test_content_lies_below_the_prefix_at_its_hash(prefix):
    keys = KeySpace("bucket", prefix)
    assert keys.content(HASH) == ("bucket", f"{prefix}/{HASH}")
    assert keys.hash_of(f"{prefix}/{HASH}") == HASH


def test_without_a_prefix_content_lies_at_its_hash():
    keys = KeySpace("bucket")
    assert keys.content(HASH) == ("bucket", HASH)
    assert keys.hash_of(HASH) == HASH


def test_one_slash_at_the_end_of_a_prefix_makes_no_difference():
    assert KeySpace("bucket", "a/b/").content(HASH) == KeySpace("bucket", "a/b").content(HASH)
    assert KeySpace("bucket", "/").content(HASH) == KeySpace("bucket").content(HASH)
    assert KeySpace("bucket", "a//").content(HASH).key == f"a//{HASH}"


def test_an_empty_bucket_is_refused():
    with pytest.raises(ConfigError, match="bucket is empty"):
        KeySpace("", "prefix")


@relaxed
@given(PREFIXES)
def test_temporary_key_has_its_time_and_is_unique(prefix):
    keys = KeySpace("bucket", prefix)
    before = datetime.now(UTC) - timedelta(seconds=1)
    first, second = keys.temporary(), keys.temporary()
    assert first != second
    assert first.bucket == "bucket"
    assert first.key.startswith(f"{prefix}/")
    match = temporary_name(first.key.removeprefix(f"{prefix}/"))
    assert match is not None
    assert before <= datetime.strptime(match[1], STAMP_FORMAT).replace(tzinfo=UTC) <= datetime.now(UTC)


@relaxed
@given(PREFIXES)
def test_a_temporary_key_is_no_content_key(prefix):
    for keys in (KeySpace("bucket", prefix), KeySpace("bucket")):
        assert keys.hash_of(keys.temporary().key) is None


@pytest.mark.parametrize(
    "key",
    [
        HASH,
        f"other/{HASH}",
        f"p{HASH}",
        f"p/{HASH.upper()}",
        f"p/{HASH}.txt",
        f"p/{HASH}\n",
        f"p/x/{HASH}",
        f"p/p/{HASH}",
        f"p//{HASH}",
        f"p/.tmp/{HASH}",
        "p/readme",
        "p/abc",
        "p/",
        "p",
        "",
    ],
)
def test_other_keys_hold_no_content_of_this_storage(key):
    assert KeySpace("bucket", "p").hash_of(key) is None


def test_content_below_the_prefix_is_no_content_of_the_storage_above():
    assert KeySpace("bucket").hash_of(f"p/{HASH}") is None


# Prefixes.


@relaxed
@given(PREFIXES)
def test_portable_prefix_is_kept_unchanged(prefix):
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["a b", "a//b", "%41", "a%2Fb", "é", "日本/語", "📦", "...", ".hidden", "a.", " a "])
def test_unusual_prefixes_are_kept_unchanged(prefix):
    assert check_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["/a", "//", "///", "/a/"])
def test_a_prefix_that_starts_with_a_slash_is_refused(prefix):
    with pytest.raises(ConfigError, match="starts with a slash"):
        check_prefix(prefix)


@pytest.mark.parametrize("prefix", [".", "..", "./", "a/.", "a/..", "../a", "a/../b", "a/./b", "a/../"])
def test_a_prefix_that_http_libraries_would_resolve_is_refused(prefix):
    with pytest.raises(ConfigError, match=r"segment '\.' or '\.\.'"):
        check_prefix(prefix)


@relaxed
@given(
    SEGMENTS,
    st.sampled_from("\x00\t\n\r\x1f\x7f\x80\x9f\ud800\udfff\ufffe\uffff") | st.characters(categories=("Cs", "Cc")),
)
def test_a_prefix_with_a_character_that_no_listing_can_show_is_refused(segment, character):
    with pytest.raises(ConfigError, match="control character"):
        check_prefix(f"a/{segment}{character}{segment}")


@pytest.mark.parametrize("character", ["a", "é", "日", "📦"])
def test_a_prefix_leaves_room_for_the_longest_name(character):
    longest = 824 // len(character.encode())
    keys = KeySpace("bucket", character * longest)
    assert len(keys.content(hashlib.sha512().hexdigest()).key.encode()) <= MAX_KEY_BYTES
    assert len(keys.temporary().key.encode()) <= MAX_KEY_BYTES
    with pytest.raises(ConfigError, match="at most 824 leave room"):
        check_prefix(character * (longest + 1))


@pytest.mark.parametrize("storage_class", [MemoryStorage, FileStorage, S3Storage])
def test_every_storage_checks_its_prefix(storage_class):
    for prefix in ("/a", "a/../b", "a\x00"):
        with pytest.raises(ConfigError):
            storage_class("bucket", prefix=prefix)


# Tags.


@relaxed
@given(st.dictionaries(TAG_KEYS, TAG_TEXT, max_size=10))
def test_tags_within_the_rule_are_accepted_as_a_copy(tags):
    checked = check_tags(tags)
    assert checked == tags
    assert checked is not tags


def test_tags_at_the_limits_are_accepted():
    check_tags({"k" * 128: "v" * 256})
    check_tags({f"k{number}": "" for number in range(10)})
    check_tags({"aws": "aws:value", "my:aws:key": "x"})


def test_an_eleventh_tag_is_refused():
    with pytest.raises(InvalidTags, match="11 tags were given, but an object can have at most 10"):
        check_tags({f"k{number}": "" for number in range(11)})


@relaxed
@given(st.text(TAG_CHARACTERS, max_size=20), st.characters(exclude_characters=TAG_CHARACTERS))
def test_a_character_outside_of_the_rule_is_refused_in_keys_and_values(text, character):
    with pytest.raises(InvalidTags, match="the value of tag 'key' has a character outside"):
        check_tags({"key": text + character})
    with pytest.raises(InvalidTags, match="the key of tag .* has a character outside"):
        check_tags({f"k{text}{character}": "value"})


@pytest.mark.parametrize("character", ["\n", "&", "é", "٣", "@", "\x00"])
def test_single_unusual_character_at_the_end_is_refused(character):
    with pytest.raises(InvalidTags):
        check_tags({"key": f"value{character}"})


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"": "value"}, "the key of tag '' has 0 characters; 1 to 128 are allowed"),
        ({"k" * 129: "value"}, "has 129 characters; 1 to 128 are allowed"),
        ({"key": "v" * 257}, "the value of tag 'key' has 257 characters; 0 to 256 are allowed"),
        ({"key": 1}, "the value of tag 'key' must be a string, not int"),
        ({"key": None}, "the value of tag 'key' must be a string, not NoneType"),
        ({1: "value"}, "the key of tag 1 must be a string, not int"),
        ({"aws:key": "value"}, "starts with 'aws:', which S3 reserves"),
        ({"AWS:key": "value"}, "starts with 'aws:', which S3 reserves"),
    ],
)
def test_tags_that_break_the_rule_are_refused_with_the_reason(tags, message):
    with pytest.raises(InvalidTags, match=re.escape(message)):
        check_tags({"fine": "fine", **tags})


def test_a_very_long_key_is_not_repeated_in_full():
    with pytest.raises(InvalidTags) as caught:
        check_tags({"k" * 100_000: "value"})
    assert len(str(caught.value)) < 300


# URLs.


def parse(url, **options):
    return parse_url(url, scheme="s3", readers={**EngineSettings.url_readers(), **options})


def test_a_url_is_a_bucket_a_prefix_and_settings():
    assert parse("s3://bucket") == ("bucket", "", {})
    assert parse("s3://bucket/") == ("bucket", "", {})
    assert parse("s3://Bucket.name-1/a/b/?part_size=5&verify=false&region=eu", region=str) == (
        "Bucket.name-1",
        "a/b/",
        {"part_size": 5, "verify": False, "region": "eu"},
    )


@relaxed
@given(PREFIXES)
def test_a_prefix_that_is_percent_encoded_comes_back_as_it_was(prefix):
    assert parse(f"s3://bucket/{quote(prefix)}?part_size=5") == ("bucket", prefix, {"part_size": 5})
    assert parse(f"s3://bucket/{quote(prefix, safe='')}")[1] == prefix


def test_a_percent_sign_is_decoded_once():
    assert parse("s3://bucket/%2541")[1] == "%41"


@relaxed
@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_the_text_of_a_setting_is_percent_decoded(text):
    assert parse(f"s3://bucket?region={quote(text, safe='')}", region=str)[2] == {"region": text}


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("partsize", "part_size"), ("part-size", "part_size"), ("Verify", "verify"), ("regions", "region")],
)
def test_an_unknown_setting_names_the_nearest(wrong, right):
    with pytest.raises(ConfigError, match=f"unknown setting '{wrong}' in the URL; did you mean '{right}'"):
        parse(f"s3://bucket?{wrong}=5", region=str)


def test_an_unknown_setting_that_is_near_to_none_names_all():
    with pytest.raises(ConfigError, match="unknown setting 'zzz' in the URL; known are .*part_size, .*region"):
        parse("s3://bucket?zzz=5", region=str)


def test_repeated_setting_is_refused():
    with pytest.raises(ConfigError, match="setting 'part_size' twice"):
        parse("s3://bucket?part_size=5&part_size=5")


@pytest.mark.parametrize("query", ["part_size=big", "part_size=", "part_size=1.5", "verify=maybe", "cleanup_timeout=x"])
def test_a_setting_that_cannot_be_read_is_named(query):
    with pytest.raises(ConfigError, match=f"the setting '{query.partition('=')[0]}' in the URL can't be"):
        parse(f"s3://bucket?{query}")


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "1"])
def test_flags_that_are_true(text):
    assert read_flag(text) is True


@pytest.mark.parametrize("text", ["false", "False", "0"])
def test_flags_that_are_false(text):
    assert read_flag(text) is False


@relaxed
@given(st.text().filter(lambda text: text.lower() not in ("true", "false", "0", "1")))
def test_other_flags_are_refused(text):
    with pytest.raises(ValueError, match="expected true or false"):
        read_flag(text)


@pytest.mark.parametrize("url", ["gs://bucket", "bucket", "", "S4://bucket", "/bucket"])
def test_a_url_of_another_scheme_is_refused(url):
    with pytest.raises(ConfigError, match="starts with s3://"):
        parse(url)


def test_a_fragment_is_refused_with_the_way_to_write_it():
    with pytest.raises(ConfigError, match="%23"):
        parse("s3://bucket/a#b")
    assert parse("s3://bucket/a%23b")[1] == "a#b"


@pytest.mark.parametrize("url", ["s3://[", "s3://bucket]/a", "memory://[::1/a", "file://[/a"])
def test_a_url_that_python_cannot_split_is_refused_as_configuration(url):
    with pytest.raises(ConfigError):
        storage_from_url(url)


# Credentials in URLs.

# Long enough to occur in no message by chance.
PASSWORDS = st.text(string.ascii_letters + string.digits + "+=%~!*-_.:").map(lambda text: f"Zq9x{text}Jw7")


@relaxed
@given(PASSWORDS, PASSWORDS)
def test_credentials_in_a_url_are_refused_and_never_repeated(user, password):
    for url in (f"s3://{user}:{password}@bucket/prefix", f"s3://{user}{password}@bucket", f"s3://:{password}@bucket"):
        with pytest.raises(ConfigError, match="must not contain credentials") as caught:
            parse(url)
        assert_unsaid(password, caught.value)
    for url in (f"https://{user}:{password}@host", f"http://{password}@host:9000/", f"ftp://{user}:{password}@host"):
        with pytest.raises(ConfigError, match="must not contain credentials") as caught:
            check_endpoint_url(url)
        assert_unsaid(password, caught.value)


@pytest.mark.parametrize("scheme", ["s3", "memory", "file"])
def test_every_storage_refuses_credentials_in_its_url(scheme):
    with pytest.raises(ConfigError, match="must not contain credentials") as caught:
        storage_from_url(f"{scheme}://AKIAEXAMPLE:wJalrXUtnFEMI@bucket/prefix")
    assert_unsaid("wJalrXUtnFEMI", caught.value)


@pytest.mark.parametrize("separator", ["/", "?", "#"])
def test_a_secret_with_a_character_that_ends_the_host_is_refused_and_not_repeated(separator):
    # Secret keys of AWS have slashes, and users paste them without encoding.
    with pytest.raises(ConfigError) as caught:
        storage_from_url(f"s3://AKIAEXAMPLE:wJalrXUtn{separator}FEMIK7MDENG@bucket/prefix")
    assert_unsaid("wJalrXUtn", caught.value)
    assert_unsaid("FEMIK7MDENG", caught.value)


@pytest.mark.parametrize("name", ["aws_secret_access_key", "secret", "password", "token"])
def test_a_secret_among_the_settings_is_refused_and_not_repeated(name):
    with pytest.raises(ConfigError, match=f"unknown setting '{name}'") as caught:
        storage_from_url(f"s3://bucket?{name}=wJalrXUtnFEMI")
    assert_unsaid("wJalrXUtnFEMI", caught.value)


def test_an_endpoint_with_credentials_in_a_storage_url_is_refused_and_not_repeated():
    endpoint = quote("https://AKIAEXAMPLE:wJalrXUtnFEMI@minio.example.com", safe="")
    with pytest.raises(ConfigError, match="endpoint_url must not contain credentials") as caught:
        storage_from_url(f"s3://bucket?endpoint_url={endpoint}")
    assert_unsaid("wJalrXUtnFEMI", caught.value)


@pytest.mark.parametrize("url", ["AKIAEXAMPLE:wJalrXUtnFEMI@minio.example.com", "admin:wJalrXUtnFEMI@localhost:9000"])
def test_an_endpoint_without_a_scheme_never_has_its_credentials_repeated(url):
    with pytest.raises(ConfigError) as caught:
        check_endpoint_url(url)
    assert_unsaid("wJalrXUtnFEMI", caught.value)


def assert_unsaid(secret, error):
    """Neither the error nor what led to it repeats the secret."""
    while error is not None:
        assert secret not in str(error)
        assert secret not in repr(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


# Endpoints.


@pytest.mark.parametrize(
    "url", ["https://s3.example.com", "http://localhost:9000", "http://[::1]:9000/path", "https://10.0.0.1"]
)
def test_an_endpoint_is_kept_but_for_a_slash_at_its_end(url):
    assert check_endpoint_url(url) == url
    assert check_endpoint_url(f"{url}/") == url


@pytest.mark.parametrize(
    "url",
    ["", "localhost", "localhost:9000", "//host", "ftp://host", "file:///etc", "http://", "https://:9000", "s3://b"],
)
def test_invalid_endpoint_is_refused(url):
    with pytest.raises(ConfigError, match="endpoint_url must be a URL such as https://"):
        check_endpoint_url(url)


@pytest.mark.parametrize("url", ["http://[", "http://[::1", "http://host]", "http://host:port", "http://host:99999"])
def test_an_endpoint_that_no_client_could_reach_is_refused(url):
    with pytest.raises(ConfigError, match="endpoint_url"):
        check_endpoint_url(url)


# Which storage a URL makes.


def test_the_scheme_chooses_the_storage(tmp_path):
    assert type(storage_from_url("memory://bucket/p")) is MemoryStorage
    assert type(storage_from_url("s3://bucket/p?region=eu-central-1")) is S3Storage
    files = storage_from_url(f"{tmp_path.as_uri()}/a%20b?verify=false&create=false")
    assert type(files) is FileStorage
    assert files.keys.bucket == str(tmp_path / "a b")
    assert files.settings.verify is False


def test_an_unknown_scheme_names_the_nearest():
    with pytest.raises(ConfigError, match="'fille'; did you mean 'file'"):
        storage_from_url("fille:///srv")
    with pytest.raises(ConfigError, match="known are az, file, gs, memory, s3"):
        storage_from_url("bucket/prefix")


def test_a_file_url_has_no_host():
    with pytest.raises(ConfigError, match="file:///"):
        storage_from_url("file://srv/blobs")
    assert storage_from_url("file://localhost/srv/blobs").keys.bucket == "/srv/blobs"


def test_a_file_url_names_a_folder():
    with pytest.raises(ConfigError):
        storage_from_url("file://")


def test_a_bucket_is_needed():
    for url in ("s3://", "s3:///prefix", "memory://"):
        with pytest.raises(ConfigError, match="bucket is empty"):
            storage_from_url(url)
