"""A TLS terminator before a server, with a certificate that only its tests trust."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def server_context(folder: Path, *, name: str, days: int = 1) -> ssl.SSLContext:
    """A server's TLS with a certificate for a name. The certificate of its authority is `ca.pem` in the folder.

    Args:
        folder: Where the certificates are written.
        name: A host name or an address.
        days: Days until the certificate expires; it has expired if they are negative.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    alternative = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(certificate.public_bytes(encoding))
    (folder / "server.pem").write_bytes(private + certificate.public_bytes(encoding))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    return context


@asynccontextmanager
async def tls_before(url: str, folder: Path, *, name: str, asks_clients: bool = False) -> AsyncIterator[str]:
    """Start a TLS terminator before a server, and yield its URL. Its certificate for the name is `ca.pem` in the folder.

    Args:
        url: The server.
        folder: Where the certificates are written.
        name: A host name or an address.
        asks_clients: Whether clients must have a certificate of the same authority, such as `server.pem`.
    """
    context = server_context(folder, name=name)
    if asks_clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(folder / "ca.pem")
    host, port = url.removeprefix("http://").split(":")

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(2**16):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # the test has ended
            from_server, to_server = await asyncio.open_connection(host, int(port))
            try:
                await asyncio.gather(pump(reader, to_server), pump(from_server, writer))
            finally:  # a pump that is cancelled before its start closes nothing
                to_server.close()
                writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
