"""The `lakery-cloud` command as a user runs it: a process of its own, on folders."""

import hashlib
import json
import os
import select
import signal
import subprocess

import pytest

import lakery_cloud
from tests.cli.shell import CONTENT, HASH, LARGE, MISSING, assert_fails, lines_of
from tests.helpers import PATIENCE, wait_until

# Put and get.


def test_get_returns_the_content_of_put(shell):
    done = shell.run("put", shell.file())
    assert done.returncode == 0
    record = json.loads(done.stdout)
    assert record == {
        "content_type": "text/plain",
        "content_encoding": None,
        "content_hash": HASH,
        "content_hash_algorithm": "sha256",
        "content_size": len(CONTENT),
        "storage_name": "lakery_cloud.file@v1",
        "storage_data": record["storage_data"],
    }
    assert shell.stored() == [HASH]
    for target in (done.stdout.decode(), HASH):
        assert shell.run("get", target).stdout == CONTENT


def test_several_files_give_a_record_each_in_their_order(shell):
    files = [shell.file(f"{number}.json", f"[{number}]".encode()) for number in range(4)]
    done = shell.run("put", *files, "--content-encoding", "identity", "-t", "application/x-number")
    records = [json.loads(line) for line in lines_of(done.stdout)]
    assert [record["content_hash"] for record in records] == [
        hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    ]
    assert {(record["content_type"], record["content_encoding"]) for record in records} == {
        ("application/x-number", "identity")
    }
    assert len(shell.stored()) == 4


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.json", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.csv.xz", "application/x-xz"),
        ("a.unheard-of", "application/octet-stream"),
        ("no-suffix", "application/octet-stream"),
    ],
)
def test_the_content_type_is_guessed_from_the_name_and_the_bytes_are_left_alone(shell, name, content_type):
    record = json.loads(shell.run("put", shell.file(name)).stdout)
    assert (record["content_type"], record["content_encoding"]) == (content_type, None)
    assert shell.run("get", HASH).stdout == CONTENT


@pytest.mark.parametrize("data", [b"", CONTENT, LARGE], ids=["empty", "small", "large"])
def test_standard_input_is_saved_and_comes_back(shell, data):
    done = shell.run("put", "-", "--storage", shell.url("?part_size=1000000"), stdin=data)
    assert done.returncode == 0
    assert shell.stored() == [hashlib.sha256(data).hexdigest()]
    assert shell.run("get", "-", stdin=done.stdout).stdout == data


def test_a_large_file_is_saved_and_saved_again(shell):
    file = shell.file("large.bin", LARGE)
    first, second = (shell.run("put", file, "-s", shell.url("?part_size=500000")) for _ in range(2))
    assert first.returncode == second.returncode == 0
    assert first.stdout == second.stdout
    assert shell.stored() == [hashlib.sha256(LARGE).hexdigest()]


def test_put_pipes_into_get(shell):
    putting = shell.start("put", shell.file(), stdout=subprocess.PIPE)
    getting = shell.start("get", "-", "-o", "copy.txt", stdin=putting.stdout, stdout=subprocess.PIPE)
    putting.stdout.close()
    output, _ = getting.communicate(timeout=PATIENCE)
    assert (putting.wait(PATIENCE), getting.returncode, output) == (0, 0, b"")
    assert (shell.folder / "copy.txt").read_bytes() == CONTENT


def test_output_that_is_no_terminal_gets_no_progress(shell):
    file = shell.file("large.bin", LARGE)
    put = shell.run("put", file)
    assert (put.returncode, put.stderr) == (0, b"")
    assert shell.run("put", file, "-", "--quiet", stdin=CONTENT).stderr == b""
    assert shell.run("get", HASH).stderr == b""
    assert shell.run("get", lines_of(put.stdout)[0], "-o", "copy.bin").stderr == b""


def test_tags_are_kept_beside_the_content(shell):
    shell.put(CONTENT, "--tag", "project=apollo", "--tag", "formula=a=b")
    tags = json.loads(shell.run("stat", HASH, "--json").stdout)["tags"]
    assert tags in ({"project": "apollo", "formula": "a=b"}, {})  # no extended attributes, no tags
    (shell.folder / "probe").touch()
    try:
        os.setxattr(shell.folder / "probe", "user.probe", b"")
    except (OSError, AttributeError):
        pytest.skip("this file system has no extended attributes")
    assert tags == {"project": "apollo", "formula": "a=b"}


# Looking and deleting.


def test_ls_lists_all_content(shell):
    shell.run("put", *(shell.file(f"{number}", bytes(number)) for number in range(5)))
    expected = {hashlib.sha256(bytes(number)).hexdigest(): number for number in range(5)}
    done = shell.run("ls")
    assert done.returncode == 0
    assert {line.split()[0]: int(line.split()[1]) for line in lines_of(done.stdout)} == expected
    assert done.stderr.decode() == "5 objects, 10 bytes\n"
    done = shell.run("ls", "--json")
    found = [json.loads(line) for line in lines_of(done.stdout)]
    assert {item["content_hash"]: item["size"] for item in found} == expected
    assert done.stderr == b""


def test_stat_describes_the_stored_object(shell):
    record = shell.put(CONTENT, "-t", "text/x-test")
    for target in (HASH, json.dumps(record)):
        facts = json.loads(shell.run("stat", target, "--json").stdout)
        assert facts["content_hash"] == HASH
        assert facts["size"] == len(CONTENT)
        assert facts["key"] == HASH
        assert facts["bucket"] == str(shell.objects)
        table = dict(line.split(maxsplit=1) for line in lines_of(shell.run("stat", target).stdout))
        assert table["content_hash"] == HASH
        assert table["size"] == str(len(CONTENT))
        assert table.keys() == facts.keys() - {"result", "error"}


def test_rm_deletes_the_named_content(shell):
    shell.put(b"stays")
    record = shell.put()
    other = shell.put(b"another")
    done = shell.run("rm", json.dumps(record), other["content_hash"], MISSING)
    assert done.returncode == 0
    assert lines_of(done.stdout) == [
        f"deleted  {HASH}  {len(CONTENT)}",
        f"deleted  {other['content_hash']}  7",
        f"not there  {MISSING}",
    ]
    assert shell.stored() == [hashlib.sha256(b"stays").hexdigest()]
    assert_fails(shell.run("get", HASH), 3, "NoStorageData", saying=HASH)


@pytest.mark.parametrize("flag", ["--dry-run", "-n"])
def test_a_dry_run_deletes_nothing(shell, flag):
    shell.put()
    done = shell.run("rm", flag, HASH, MISSING)
    assert done.returncode == 0
    assert lines_of(done.stdout) == [f"would be deleted  {HASH}  {len(CONTENT)}", f"not there  {MISSING}"]
    assert shell.stored() == [HASH]


def test_rm_in_json(shell):
    shell.put()
    done = shell.run("rm", "--json", HASH, MISSING)
    assert [json.loads(line) for line in lines_of(done.stdout)] == [
        {"content_hash": HASH, "size": len(CONTENT), "result": "deleted", "error": None},
        {"content_hash": MISSING, "size": None, "result": "not there", "error": None},
    ]


# Which storage.


def test_the_storage_option_wins_over_the_environment(shell):
    elsewhere = shell.folder / "elsewhere"
    assert shell.run("put", "-", "--storage", elsewhere.as_uri(), stdin=CONTENT).returncode == 0
    assert (elsewhere / HASH).read_bytes() == CONTENT
    assert not shell.objects.exists()
    assert shell.run("get", HASH, LAKERY_CLOUD_STORAGE=elsewhere.as_uri()).stdout == CONTENT
    assert_fails(shell.run("get", HASH), 3, "BucketNotFound", saying=str(shell.objects))


@pytest.mark.parametrize("unset", [None, ""], ids=["unset", "empty"])
def test_the_default_storage_is_a_folder_in_the_data_directory(shell, unset):
    assert shell.run("put", "-", stdin=CONTENT, LAKERY_CLOUD_STORAGE=unset).returncode == 0
    assert (shell.folder / "data" / "lakery-cloud" / "objects" / HASH).read_bytes() == CONTENT
    assert shell.run("get", HASH, LAKERY_CLOUD_STORAGE=unset).stdout == CONTENT


def test_data_directory_may_have_unusual_characters(shell):
    odd = {"LAKERY_CLOUD_STORAGE": None, "XDG_DATA_HOME": str(shell.folder / "d a%20t#a?é")}
    assert shell.run("put", "-", stdin=CONTENT, **odd).returncode == 0
    assert (shell.folder / "d a%20t#a?é" / "lakery-cloud" / "objects" / HASH).read_bytes() == CONTENT
    assert shell.run("get", HASH, **odd).stdout == CONTENT


# Exit codes and messages.


def test_no_command_at_all_shows_the_help(shell):
    for arguments in ([], ["--help"]):
        done = shell.run(*arguments)
        assert (done.returncode, done.stderr) == (0, b"")
        for command in ("put", "get", "ls", "stat", "rm"):
            assert command in done.stdout.decode()


def test_the_version_is_that_of_the_library(shell):
    assert shell.run("--version").stdout.decode().strip() == lakery_cloud.__version__


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("ls", "--bogus"),
        ("sweep", "unexpected"),
        ("get", HASH, "-o"),
        ("put", "a", "--tag"),
        ("--debug=maybe", "ls"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_with_one_line(shell, arguments):
    assert_fails(shell.run(*arguments), 2, "Usage")


@pytest.mark.parametrize(
    ("arguments", "kind", "saying"),
    [
        (("put",), "ConfigError", "no file given"),
        (("put", "missing.txt"), "ConfigError", "no file matches 'missing.txt'"),
        (("put", "."), "ConfigError", "'.' is a folder"),
        (("put", "-", "-"), "ConfigError", "only once"),
        (("get",), "ConfigError", "no content given to load"),
        (("stat",), "ConfigError", "no content given to look up"),
        (("rm",), "ConfigError", "no content given to delete"),
        (("ls", "readme"), "InvalidRecord", "'readme'"),
        (("get", "ab*"), "ConfigError", "add -r"),
        (("get", HASH, MISSING, "-o", "file.txt"), "ConfigError", "is a file"),
        (("get", HASH, "--json"), "ConfigError", "--output"),
        (("get", "s3://["), "ConfigError", "malformed"),
        (("get", "--records", "missing.jsonl"), "ConfigError", "missing.jsonl"),
        (("ls", "--storage", "nope://x"), "ConfigError", "'nope'"),
        (("ls", "--storage", "file://host/x"), "ConfigError", "file:///"),
        (("ls", "--storage", "file:///tmp?partsize=5"), "ConfigError", "did you mean 'part_size'"),
        (("ls", "--storage", "file:///tmp?part_size=0"), "ConfigError", "at least 1"),
        (("ls", "--storage", "s3://["), "ConfigError", ""),
        (("ls", "--storage", "file:///srv/a%00b"), "ConfigError", ""),
        (("get", "readme"), "InvalidRecord", "'readme'"),
        (("get", HASH.upper()), "InvalidRecord", "lower-case"),
        (("stat", "../../etc/passwd"), "InvalidRecord", "hexadecimal"),
        (("get", "{}"), "InvalidRecord", "content_hash"),
        (("get", "{"), "InvalidRecord", "not JSON"),
        (("get", "{" + '"a":[' * 20_000), "InvalidRecord", ""),
        (("rm", "readme"), "InvalidRecord", "'readme'"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None,
)
def test_what_cannot_be_meant_exits_2_with_one_line(shell, arguments, kind, saying):
    shell.objects.mkdir()
    shell.file()
    assert_fails(shell.run(*arguments), 2, kind, saying=saying)


@pytest.mark.parametrize("stdin", [b"", b"\n", b"readme\n", b"\xff\xfe\n", b"{\n"], ids=repr)
def test_invalid_record_on_standard_input_exits_2_with_one_line(shell, stdin):
    shell.put()
    assert_fails(shell.run("get", "-", stdin=stdin), 2, "InvalidRecord")


@pytest.mark.parametrize(
    "tags",
    [
        ("novalue",),
        ("=x",),
        ("näme=x",),
        ("a=1", "a=2"),
        ("aws:a=1",),
        tuple(f"k{number}=v" for number in range(11)),
        (f"{'k' * 129}=v",),
    ],
    ids=lambda tags: " ".join(tags)[:20],
)
def test_bad_tags_are_refused_before_anything_is_done(shell, tags):
    arguments = [word for tag in tags for word in ("--tag", tag)]
    assert_fails(shell.run("put", shell.file(), *arguments), 2, "InvalidTags")
    assert not shell.objects.exists()


@pytest.mark.parametrize("command", ["get", "stat"])
def test_missing_content_exits_3_with_one_line(shell, command):
    assert_fails(shell.run(command, MISSING), 3, "BucketNotFound", saying="objects")
    shell.put()
    assert_fails(shell.run(command, MISSING), 3, "NoStorageData", saying=MISSING)


def test_a_storage_that_is_not_there_exits_3_with_one_line(shell):
    assert_fails(shell.run("ls", "-s", shell.url("?create=false")), 3, "BucketNotFound", saying="objects")
    assert_fails(shell.run("put", shell.file(), "-s", shell.url("?create=false")), 3, "BucketNotFound")


def test_what_may_not_be_read_exits_4_with_one_line(shell):
    record = shell.put()
    outside = shell.folder / "outside"
    outside.mkdir()
    (shell.objects / HASH).rename(outside / HASH)
    (shell.objects / "link").symlink_to(outside)
    record["storage_data"] = json.dumps({**json.loads(record["storage_data"]), "key": f"link/{HASH}"})
    assert_fails(shell.run("get", json.dumps(record)), 4, "AccessDenied", saying="links that lead out")


def test_damaged_content_exits_5_with_one_line(shell):
    record = shell.put()
    shell.damage()
    for target in (HASH, json.dumps(record)):
        assert_fails(shell.run("get", target), 5, "IntegrityError", saying=HASH)


def test_content_of_another_size_is_not_overwritten_and_exits_5(shell):
    shell.objects.mkdir()
    (shell.objects / HASH).write_bytes(b"somebody else's")
    assert_fails(shell.run("put", shell.file()), 5, "IntegrityError")
    assert (shell.objects / HASH).read_bytes() == b"somebody else's"


def test_a_record_that_contradicts_itself_exits_5(shell):
    record = shell.put()
    assert_fails(shell.run("get", json.dumps({**record, "content_size": 7})), 5, "IntegrityError")


def test_record_of_another_storage_exits_2_and_names_the_storage(shell):
    record = {**shell.put(), "storage_name": "lakery_cloud.s3@v1"}
    for command in ("get", "stat", "rm"):
        done = shell.run(command, json.dumps(record))
        assert_fails(done, 2, "NotRegistered", saying="select a storage of this kind with --storage")
    assert shell.stored() == [HASH]


def test_error_of_the_system_exits_1_with_one_line(shell):
    shell.objects.mkdir()
    (shell.objects / ".tmp").write_text("not a folder")
    done = shell.run("put", shell.file())
    assert_fails(done, 1, "LakeryCloudError", saying="File exists")


def test_error_with_unusual_characters_in_a_name_is_one_line(shell):
    assert_fails(shell.run("put", "two\nlines[red]x[/red].txt"), 2, "ConfigError", saying="lines[red]x[/red].txt")


@pytest.mark.parametrize("is_cached", [False, True], ids=["no token", "expired token"])
def test_single_sign_on_without_a_valid_token_exits_4_with_one_line(shell, is_cached):
    """The SDK logs its traceback of many lines, which Python prints where no log is set up."""
    session = "sso_start_url = https://corp.example.com/start\nsso_region = eu-central-1\n"
    profile = "sso_session = corp\nsso_account_id = 111122223333\nsso_role_name = dev\nregion = eu-central-1\n"
    (shell.folder / "config").write_text(f"[profile sso]\n{profile}[sso-session corp]\n{session}")
    cache = shell.folder / "home" / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    if is_cached:
        token = {"accessToken": "x", "expiresAt": "2020-01-01T00:00:00Z", "region": "eu-central-1"}
        (cache / f"{hashlib.sha1(b'corp').hexdigest()}.json").write_text(json.dumps(token))
    env = {"AWS_CONFIG_FILE": str(shell.folder / "config"), "AWS_PROFILE": "sso"}
    assert_fails(shell.run("ls", "s3://my-bucket", **env), 4, "CredentialsError", saying="aws sso login")


@pytest.mark.parametrize("arguments", [("--debug", "get", MISSING), ("get", MISSING, "--debug")], ids=" ".join)
def test_debug_shows_the_traceback(shell, arguments):
    shell.put()
    done = shell.run(*arguments)
    assert done.returncode == 3
    errors = done.stderr.decode()
    assert errors.startswith("Traceback (most recent call last):")
    assert "NoStorageData" in lines_of(done.stderr)[-1]
    assert MISSING in errors


# Interruption.


def interrupted(process, *, when):
    """Exit code and error output of a command that gets Ctrl-C while it waits for the other end of a pipe."""
    try:
        wait_until(when)
        process.send_signal(signal.SIGINT)
        code = process.wait(PATIENCE)
        return code, process.stderr.read().decode()
    finally:
        process.kill()
        process.communicate()


def test_ctrl_c_in_the_middle_of_a_stream_leaves_nothing(shell):
    part_size = 65536
    temporary = shell.objects / ".tmp"
    sent = len(LARGE) // part_size - 1  # the last full part may wait for more data or the end

    def waits_for_more():
        return any(path.stat().st_size >= sent * part_size for path in temporary.glob("*"))

    putting = shell.start(
        *("put", "-", "--storage", shell.url(f"?part_size={part_size}")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    putting.stdin.write(LARGE)
    putting.stdin.flush()
    code, errors = interrupted(putting, when=waits_for_more)
    assert code == 130
    assert errors == "interrupted; unfinished transfers were cleaned up\n"
    assert shell.stored() == []


def test_ctrl_c_ends_a_command_whose_output_is_not_read(shell):
    record = shell.put(LARGE)
    getting = shell.start("get", record["content_hash"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    code, errors = interrupted(getting, when=lambda: select.select([getting.stdout], [], [], 0)[0])
    assert code == 130
    assert errors == "interrupted; unfinished transfers were cleaned up\n"


def test_stream_whose_source_ends_early_is_saved_up_to_there(shell):
    # A pipe does not show whether its writer finished or failed, so the received bytes are the content.
    record = shell.put(LARGE[: 1024**2])
    assert record["content_size"] == 1024**2
    assert shell.stored() == [record["content_hash"]]
