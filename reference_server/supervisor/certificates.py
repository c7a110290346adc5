"""Certificates for the edge proxies: an authority that lives for one start of the stack, and a certificate a region.

The authority's key is never stored: it signs what this start needs and is forgotten. Clients trust its certificate.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=365)
_BACKDATED = timedelta(hours=1)
"""for clients whose clock is slow"""
_HOST = "127.0.0.1"
_USAGES = ("digital_signature", "key_cert_sign", "crl_sign")
_NO_USAGE = dict.fromkeys(
    (
        *_USAGES,
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    ),
    False,
)


def write_certificates(folder: Path, authority_path: Path, regions: Iterable[str]) -> None:
    """Write the authority's certificate, and `{region}.pem` (0600: certificate and key) for each region.

    Certificates are for 127.0.0.1, localhost and {region}.localhost. Raises OSError.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = _named("feedstorm stack authority")
    authority = (
        _begun(name, name, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(key, SHA256())
    )
    for region in regions:
        _write_private(folder / f"{region}.pem", _server_pem(region, authority, key))
    authority_path.write_bytes(authority.public_bytes(Encoding.PEM))


def _server_pem(region: str, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey) -> bytes:
    """A region's certificate with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    hosts = [x509.DNSName("localhost"), x509.DNSName(f"{region}.localhost")]
    names = x509.SubjectAlternativeName([*hosts, x509.IPAddress(ipaddress.ip_address(_HOST))])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    certificate = (
        _begun(_named(f"{region}.localhost"), authority.subject, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer_key, critical=False)
        .add_extension(names, critical=False)
        .sign(authority_key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM) + private


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**_NO_USAGE | dict.fromkeys(allowed, True))


def _write_private(path: Path, data: bytes) -> None:
    """Replace a file that only its owner may read."""
    path.unlink(missing_ok=True)
    with open(path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as file:
        file.write(data)
