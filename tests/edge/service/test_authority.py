"""Certificates hold for their names, are renewed in time, and their keys are nobody else's to read."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509

from stillhouse.edge.service.authority import RENEW_DAYS, SERVER_DAYS, Authority
from stillhouse.errors import RunError

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
NAMES = ("edge.example", "192.0.2.7", "::1")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """One that has issued a certificate."""
    made = Authority.create(tmp_path / "authority", NOW)
    made.issue(NAMES, NOW)
    return made


def held(authority: Authority) -> x509.Certificate:
    return x509.load_pem_x509_certificate(authority.server_file.read_bytes())


def test_the_server_is_vouched_for(authority: Authority) -> None:
    certificate, root = held(authority), x509.load_pem_x509_certificate(authority.pem.encode())
    certificate.verify_directly_issued_by(root)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["edge.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "::1"]
    authority.server_context()


def test_keys_are_for_their_owner(authority: Authority) -> None:
    folder = authority.server_file.parent
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.glob("*.key"):
        assert path.stat().st_mode & 0o077 == 0


def test_renewed_in_time_and_for_new_names(authority: Authority) -> None:
    first = held(authority)
    soon = NOW + dt.timedelta(days=SERVER_DAYS - RENEW_DAYS - 1)
    assert not authority.renew(NAMES, soon)
    assert authority.renew(NAMES, soon + dt.timedelta(days=2))
    assert held(authority).serial_number != first.serial_number
    assert authority.renew(("other.example",), NOW)
    authority.server_key_file.write_bytes(b"damaged")
    assert authority.renew(("other.example",), NOW)
    authority.server_context()


def test_an_authority_is_made_once(authority: Authority) -> None:
    with pytest.raises(RunError, match="devices trust it"):
        Authority.create(authority.server_file.parent)
    (authority.server_file.parent / "authority.key").unlink()
    with pytest.raises(RunError, match="restore it"):
        authority.issue(["a"])
