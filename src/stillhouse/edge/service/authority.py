"""Certificates: an authority of our own that devices are given beforehand, and the server's, which it signs.

A device trusts this one authority and no other, so no public name and no third party is needed.
"""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stillhouse.errors import RunError
from stillhouse.files import write_atomically

AUTHORITY_DAYS, SERVER_DAYS, RENEW_DAYS = 3650, 397, 30


class Authority:
    """The certificates in a folder.

    Args:
        folder: made by `create`.
    """

    def __init__(self, folder: Path) -> None:
        self.certificate_file, self._key_file = folder / "authority.pem", folder / "authority.key"
        self.server_file, self.server_key_file = folder / "server.pem", folder / "server.key"

    @classmethod
    def create(cls, folder: Path, now: dt.datetime | None = None) -> "Authority":
        """Make a new authority; `RunError` where there is one already."""
        authority, begin = cls(folder), now or dt.datetime.now(dt.UTC)
        if authority.certificate_file.exists():
            raise RunError(f"{folder}: holds an authority already; devices trust it, so keep it")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("stillhouse edge authority")
        builder = _builder(name, name, key.public_key(), begin, AUTHORITY_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        certificate = builder.sign(key, hashes.SHA256())
        _write_key(authority._key_file, key)
        write_atomically(authority.certificate_file, certificate.public_bytes(Encoding.PEM))
        return authority

    @property
    def pem(self) -> str:
        """The certificate to give to devices."""
        return self.certificate_file.read_text()

    def issue(self, names: Sequence[str], now: dt.datetime | None = None, days: int = SERVER_DAYS) -> None:
        """Write a certificate for the server.

        Args:
            names: hosts and addresses that it is reached by.
            now: when it begins.
            days: how long it holds.

        Raises:
            RunError: the authority's files are damaged or absent.
        """
        certificate, signing = self._load()
        key, begin = ec.generate_private_key(ec.SECP256R1()), now or dt.datetime.now(dt.UTC)
        builder = _builder(_name(names[0]), certificate.subject, key.public_key(), begin, days)
        builder = builder.add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key())
        builder = builder.add_extension(issuer, critical=False)
        _write_key(self.server_key_file, key)
        signed = builder.sign(signing, hashes.SHA256())
        write_atomically(self.server_file, signed.public_bytes(Encoding.PEM))

    def renew(self, names: Sequence[str], now: dt.datetime | None = None) -> bool:
        """Write a new server certificate where there is none, it ends soon, or it is for other names.

        Returns:
            whether there is a new one.
        """
        if self._holds(names, now or dt.datetime.now(dt.UTC)):
            return False
        self.issue(names, now)
        return True

    def _holds(self, names: Sequence[str], now: dt.datetime) -> bool:
        """Whether the server's certificate and key belong together, are for these names, and last a while yet."""
        try:
            held = x509.load_pem_x509_certificate(self.server_file.read_bytes())
            key = load_pem_private_key(self.server_key_file.read_bytes(), password=None)
            known = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (OSError, ValueError, x509.ExtensionNotFound):
            return False
        long_enough = held.not_valid_after_utc - now > dt.timedelta(days=RENEW_DAYS)
        return long_enough and key.public_key() == held.public_key() and set(known) == set(_alternatives(names))

    def server_context(self) -> ssl.SSLContext:
        """What the server shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.server_file, self.server_key_file)
        return context

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_file.read_bytes())
            key = load_pem_private_key(self._key_file.read_bytes(), password=None)
        except (OSError, ValueError) as error:
            raise RunError(f"{self._key_file}: cannot be read ({error}); restore it from a copy") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise RunError(f"{self._key_file}: not a key of ours; restore it from a copy")
        return certificate, key


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    known: list[x509.GeneralName] = []
    for name in names:
        try:
            known.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            known.append(x509.DNSName(name))
    return known


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: dt.datetime, days: int
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(begin - dt.timedelta(minutes=10))  # a device's clock may be slow
    return builder.not_valid_after(begin + dt.timedelta(days=days))


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    """For its owner alone to read."""
    write_atomically(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), mode=0o600)
