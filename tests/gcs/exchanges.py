"""The requests of `GCSStorage` that scripts of a proxy look for."""

from lakery_cloud.testing import Exchange


def is_put(exchange: Exchange) -> bool:
    return "uploadType=multipart" in exchange.target


def is_begin(exchange: Exchange) -> bool:
    return exchange.method == "POST" and "uploadType=resumable" in exchange.target


def is_part(exchange: Exchange) -> bool:
    return exchange.method == "PUT" and exchange.sent_bytes > 0 and exchange.headers["content-range"].endswith("/*")


def is_last_part(exchange: Exchange) -> bool:
    return exchange.method == "PUT" and exchange.sent_bytes > 0 and not exchange.headers["content-range"].endswith("/*")


def is_copy(exchange: Exchange) -> bool:
    return "/rewriteTo/" in exchange.target or "/moveTo/" in exchange.target


def is_delete(exchange: Exchange) -> bool:
    return exchange.method == "DELETE" and "/upload/" not in exchange.target


def is_abort(exchange: Exchange) -> bool:
    return exchange.method == "DELETE" and "/upload/" in exchange.target


def is_read(exchange: Exchange) -> bool:
    return "alt=media" in exchange.target
