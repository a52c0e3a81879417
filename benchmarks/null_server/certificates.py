"""A certificate authority for one run, and its certificate for 127.0.0.1."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

Issuer: TypeAlias = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]

VALID = timedelta(days=2)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Write the authority for clients, and the certificate and key for the server; return both paths."""
    authority, authority_key = _signed("null server", None)
    certificate, key = _signed("127.0.0.1", (authority, authority_key))
    trusted, shown = folder / "authority.pem", folder / "server.pem"
    trusted.write_bytes(authority.public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return trusted, shown


def _signed(name: str, issuer: Issuer | None) -> Issuer:
    """Make a certificate and its key: a self-signed authority, or one that an authority signs."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - VALID)
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if issuer is not None:
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(name)), x509.DNSName("localhost")])
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key())
        builder = builder.add_extension(here, critical=False).add_extension(identifier, critical=False)
    return builder.sign(key if issuer is None else issuer[1], hashes.SHA256()), key
