"""The meaning of the proxy variables: what each entry of `NO_PROXY` exempts, and which proxies are refused."""

import pytest

from lakery_cloud import ConfigError
from lakery_cloud.http.exchange import Origin
from lakery_cloud.http.proxies import proxy_for

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.case("59")
@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy"])
def test_variable_counts_for_its_scheme_alone(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, PROXY)
    found = proxy_for(Origin.of("https://store.example"))
    assert (found and (found.url, found.name, found.variable)) == (PROXY, PROXY, variable)
    assert proxy_for(Origin.of("http://store.example")) is None


@pytest.mark.case("59")
@pytest.mark.parametrize(
    ("entry", "url", "is_exempt"),
    [
        ("*", "http://store.example", True),
        ("store.example", "http://store.example", True),
        ("store.example", "http://bucket.store.example", True),
        ("store.example", "http://mystore.example", False),
        (".store.example", "http://bucket.store.example", True),
        ("*.store.example", "http://bucket.store.example", True),
        ("STORE.example", "http://Store.Example", True),
        ("other.example", "http://store.example", False),
        ("other.example, store.example", "http://store.example", True),
        ("other.example store.example", "http://store.example", True),
        ("store.example:9000", "http://store.example:9000", True),
        ("store.example:9000", "http://store.example:9001", False),
        ("store.example:80", "http://store.example", True),
        ("store.example:443", "http://store.example", False),
        (".example:9000", "http://store.example:9000", True),
        ("127.0.0.1", "http://127.0.0.1:9000", True),
        ("127.0.0.1:9000", "http://127.0.0.1:9000", True),
        ("127.0.0.1:9001", "http://127.0.0.1:9000", False),
        ("10.0.0.0/8", "http://10.20.30.40", True),
        ("10.0.0.1/8", "http://10.20.30.40", True),
        ("10.0.0.0/8", "http://11.0.0.1", False),
        ("10.0.0.0/8", "http://10.example", False),
        ("::1", "http://[::1]:9000", True),
        ("[::1]", "http://[::1]:9000", True),
        ("[::1]:9000", "http://[::1]:9000", True),
        ("[::1]:9001", "http://[::1]:9000", False),
        ("fd00::/8", "http://[fd12::1]", True),
        ("fd00::/8", "http://10.0.0.1", False),
        ("", "http://store.example", False),
        (",", "http://store.example", False),
        (".", "http://store.example", False),
        (":80", "http://store.example", False),
        ("10.0.0.0/99", "http://10.0.0.1", False),
    ],
)
@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy"])
def test_entry_exempts(monkeypatch: pytest.MonkeyPatch, entry: str, url: str, is_exempt: bool, variable: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", PROXY)
    monkeypatch.setenv(variable, entry)
    assert (proxy_for(Origin.of(url)) is None) == is_exempt


@pytest.mark.case("59")
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("socks5://user:hunter2@proxy.example:1080", "names socks5://proxy.example:1080, which is a SOCKS proxy"),
        ("socks5h://proxy.example", "SOCKS"),
        ("ftp://proxy.example", "no HTTP proxy"),
        ("http://user:hunter2@", "no URL of a proxy"),
        ("http://user:hunter2@[proxy", "no URL of a proxy"),
        ("http://user:hunter2@proxy.example:port", "no URL of a proxy"),
        ("http://user:hunter2@proxy.example:0", "no URL of a proxy"),
    ],
)
def test_proxy_that_can_t_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(ConfigError, match="HTTP_PROXY") as raised:
        proxy_for(Origin.of("http://store.example"))
    assert words in str(raised.value)
    error: BaseException | None = raised.value
    while error is not None:
        assert "hunter2" not in f"{error!r}"
        error = error.__context__


@pytest.mark.case("59")
def test_proxy_without_a_scheme_is_http_and_its_name_has_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "user:hunter2@proxy.example:3128")
    found = proxy_for(Origin.of("http://store.example"))
    assert found is not None
    assert (found.url, found.name) == ("http://user:hunter2@proxy.example:3128", PROXY)
    assert "hunter2" not in repr(found)
