"""Credentials in texts from outside: those that a client knows, in any form, and those that only look like some."""

import base64
import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakery_cloud.redaction import MAX_SECRETS, MAX_TEXT, masked_secrets, redact, redact_error, secrets_in

SECRET = "hunter2/SECRET+and=more&more"

FORMS = {
    "plain": lambda text: f"you sent {text}.",
    "URL": lambda text: f"GET /a?x={quote(text, safe='')} HTTP/1.1",
    "path": lambda text: f"GET /{quote(text)} HTTP/1.1",
    "HTML": lambda text: f"<td>{html.escape(text)}</td>",
    "JSON": lambda text: json.dumps({"seen": text}),
    "JSON in JSON": lambda text: json.dumps({"seen": json.dumps({"seen": text.replace('"', "")})}),
    "base64": lambda text: f"seen {base64.b64encode(text.encode()).decode()}",
    "Python": lambda text: repr({"seen": [text]}),
    "cut off": lambda text: f"seen {text[:40]}",
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=20)
@given(tail=st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=60))
def test_secret_of_a_client_is_masked_in_any_form(form: str, tail: str) -> None:
    secret = f"{SECRET}{tail}"
    shown = FORMS[form](secret)
    with masked_secrets(secret):
        assert SECRET[:16] not in redact(shown)
        error = ValueError(shown, {"headers": {"seen": [shown]}}, shown.encode())
        error.response = {"Error": {"Message": shown}}  # type: ignore[attr-defined]
        assert SECRET[:16] not in redact_error(error)
        assert "hunter2" not in f"{error!r} {vars(error)}"
    assert redact(f"you sent {SECRET[:8]}") == f"you sent {SECRET[:8]}"


def test_secrets_end_with_their_client_and_old_ones_make_place() -> None:
    with masked_secrets("first-secret") as secrets:
        with masked_secrets("other-secret"):
            assert redact("first-secret other-secret") == "*** ***"
        for number in range(MAX_SECRETS):
            secrets.add(f"token-{number:02}-secret")
        assert redact("first-secret other-secret token-19-secret") == "first-secret other-secret ***"
    assert redact("token-19-secret") == "token-19-secret"


@pytest.mark.parametrize("short", ["", "a", "abcde", None, 5])
def test_what_is_no_secret_masks_nothing(short: object) -> None:
    with masked_secrets(short):
        assert redact("abcde 5 None a") == "abcde 5 None a"


NAMES = (
    *("Authorization", "Proxy-Authorization", "x-amz-security-token", "Cookie", "Set-Cookie", "X-GUploader-UploadID"),
    *("x-amz-server-side-encryption-customer-key", "x-goog-encryption-key", "x-ms-copy-source-authorization"),
    *("access_token", "refresh_token", "client_secret", "SecretAccessKey", "SessionToken", "aws_secret_access_key"),
    *("private_key", "AccountKey", "password", "SignatureProvided"),
)
WRITTEN = {
    "header": "{name}: {value}\r\nHost: kept",
    "lines": "{name}={value}\nkept",
    "XML": "<{name}>{value}</{name}><Message>kept</Message>",
    "escaped XML": "&lt;{name}&gt;{value}&lt;/{name}&gt;",
    "JSON": '{{"{name}": "{value}", "message": "kept"}}',
    "JSON list": '{{"{name}": ["{value}"], "message": "kept"}}',
    "JSON pairs": '[["{name}", "{value}"], ["message", "kept"]]',
    "JSON in JSON": '{{"m": "{{\\"{name}\\": \\"{value}\\"}}", "message": "kept"}}',
    "Python": "{{'{name}': '{value}', 'message': 'kept'}}",
    "Python bytes": "(b'{name}', b'{value}'), (b'message', b'kept')",
    "HTML": "<tr><td>{name}: {value}</td></tr><p>kept",
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=list(WRITTEN))
def test_value_of_a_known_name_is_masked(written: str) -> None:
    for value in ("hunter2SECRETvalue", "Bearer hunter2.SECRET-value_x~y+z/=", "AWS4 Credential=a, Signature=hunter2"):
        for name in (*NAMES, *map(str.lower, NAMES), *map(str.upper, NAMES)):
            shown = redact(written.format(name=name, value=value))
            assert "hunter2" not in shown
            assert ("kept" in shown) == ("kept" in written)


@pytest.mark.parametrize(
    "text",
    [
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly",
        "S3 answered AccessDenied: User: arn:aws:iam::1:user/me is not authorized to perform: s3:PutObject",
        "a token that expires soon could not be renewed: the issuer is away",
        "Basic tier, bearer of news, the key of the account",
        "no connection to the proxy http://proxy.example:3128 of HTTP_PROXY",
        "put_object of key 'a/b' in bucket 'c' failed: S3 answered SlowDown: Reduce your request rate",
    ],
)
def test_text_without_credentials_is_kept(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("value", "secrets"),
    [
        ("plain-secret", {"plain-secret"}),
        ("http://proxy.example:3128", set()),
        ("http://me:pass%2Fword@proxy.example", {"pass/word", base64.b64encode(b"me:pass/word").decode()}),
        ("https://a.blob.core.windows.net/?sv=1&sig=a%2Bb&sp=r", {"a%2Bb", "a+b"}),
        ("?sv=1&sig=a%2Bb", {"a%2Bb", "a+b"}),
        ("AccountName=me;AccountKey=key==;EndpointSuffix=x", {"key=="}),
        ("BlobEndpoint=https://h/;SharedAccessSignature=sv=1&sig=a%2Bb", {"a%2Bb", "a+b"}),
        ({"type": "authorized_user", "client_id": "id", "client_secret": "a", "refresh_token": "b"}, {"a", "b"}),
        ('{"private_key": "a", "private_key_id": "1", "source_credentials": {"refresh_token": "b"}}', {"a", "b"}),
        ("{no JSON", set()),
        (None, set()),
        (5, set()),
    ],
)
def test_secrets_in_a_credential(value: object, secrets: set[str]) -> None:
    assert set(secrets_in(value)) == secrets


@pytest.mark.parametrize("beginning", ["", "password:", "Bearer", "x=[", "//", "token"])
@pytest.mark.parametrize("repeated", ["\n", " ", "a", "'", "//", "password", "password:\n", "sig=", "a@", "<a>"])
def test_work_for_a_text_grows_with_its_length_alone(beginning: str, repeated: str) -> None:
    # The work was the square of the number of spaces behind a name: hours for a message of a mebibyte.
    assert len(redact(f"{beginning}{repeated * (2**20 // len(repeated))}<")) < 3 * MAX_TEXT


@pytest.mark.parametrize("before", range(MAX_TEXT - len(SECRET) - 2, MAX_TEXT + 2))
def test_long_text_is_cut_off_between_words(before: int) -> None:
    text = f"{'word ' * MAX_TEXT}"[: before - 1] + f" {SECRET} {'more ' * 100}"
    with masked_secrets(SECRET):
        shown = redact(text)
    assert not any(SECRET[:end] in shown for end in range(6, len(SECRET)))
    assert shown.endswith(f"... ({len(text):,} characters)")
