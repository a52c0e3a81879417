"""The proxies of the environment: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, with one meaning for every request."""

import os
import re
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from lakery_cloud.errors import ConfigError
from lakery_cloud.http.exchange import Origin

_PORT = re.compile(r"(?P<host>\[.*\]|[^:]*):(?P<port>\d+)")


class Proxy(NamedTuple):
    """A forward proxy.

    Attributes:
        url: Its URL, perhaps with credentials.
        name: The same without credentials, for messages.
        variable: Where the URL comes from.
    """

    url: str
    name: str
    variable: str

    def __repr__(self) -> str:
        return f"Proxy({self.name!r})"


def proxy_for(origin: Origin) -> Proxy | None:
    """The proxy for requests to an origin; None if they need none.

    Raises:
        ConfigError: The environment names something else than an HTTP proxy.
    """
    scheme = "https" if origin.is_tls else "http"
    proxies = getproxies()
    url = proxies.get(scheme)
    if not url or _is_exempt(origin, proxies.get("no", "")):
        return None
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    variable = next((name for name in names if os.environ.get(name)), "the system's proxy settings")
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        is_address = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # its text may have the credentials
        is_address = False
    if not is_address:
        raise ConfigError(f"{variable} is no URL of a proxy; set it to one such as http://proxy.example.com:3128")
    if parts.scheme not in ("http", "https"):
        kind = "a SOCKS proxy" if parts.scheme.startswith("socks") else "no HTTP proxy"
        raise ConfigError(
            f"{variable} names {address}, which is {kind}; lakery-cloud supports HTTP proxies only. Set it to one such as "
            f"http://proxy.example.com:3128, or add {origin.host} to NO_PROXY"
        )
    return Proxy(url, address, variable)


def _is_exempt(origin: Origin, no_proxy: str) -> bool:
    # The standard library also knows the settings of macOS and Windows, but neither networks nor IPv6.
    entries = no_proxy.replace(",", " ").split()
    return any(_matches(entry, origin) for entry in entries) or bool(proxy_bypass(f"{origin.host}:{origin.port}"))


def _matches(entry: str, origin: Origin) -> bool:
    """Whether an entry of `NO_PROXY` means an origin: `*`, or a host, suffix, address or network, perhaps with a port."""
    if entry == "*":
        return True
    if found := _PORT.fullmatch(entry):
        if int(found["port"]) != origin.port:
            return False
        entry = found["host"]
    try:
        return ip_address(origin.host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # a name
        name, host = entry.removeprefix("*").lstrip(".").lower(), origin.host.lower()
        return bool(name) and (host == name or host.endswith(f".{name}"))
