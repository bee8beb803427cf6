"""What is no certificate, no key, or no pair is told by its setting, its path and the reason."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)

from proxy.tls import BadFile, Pem, client_context, server_context


def written(path: Path, key: rsa.RSAPrivateKey, encryption: KeySerializationEncryption) -> str:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """Good ones and bad ones, by what they are."""
    authority = trustme.CA()
    own, other = authority.issue_cert("localhost"), authority.issue_cert("localhost")
    found = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "certificate", "key", "other", "cut", "both")}
    authority.cert_pem.write_to_path(found["ca"])
    own.cert_chain_pems[0].write_to_path(found["certificate"])
    own.private_key_pem.write_to_path(found["key"])
    other.private_key_pem.write_to_path(found["other"])
    own.private_key_and_cert_chain_pem.write_to_path(found["both"])
    Path(found["cut"]).write_bytes(own.cert_chain_pems[0].bytes()[:-200])
    junk = tmp_path / "junk.pem"
    junk.write_text("Dear Sir or Madam")
    weak, strong = rsa.generate_private_key(65537, 1024), rsa.generate_private_key(65537, 2048)
    return found | {
        "junk": str(junk),
        "nowhere": str(tmp_path / "nowhere.pem"),
        "directory": str(tmp_path),
        "encrypted": written(tmp_path / "encrypted.pem", strong, BestAvailableEncryption(b"opensesame")),
        "another algorithm": written(tmp_path / "rsa.pem", weak, NoEncryption()),
    }


BAD = [
    ("nowhere", "key", "certificate", "cannot be read: No such file or directory"),
    ("directory", "key", "certificate", "cannot be read: Is a directory"),
    ("junk", "key", "certificate", "no PEM file with certificates"),
    ("key", "key", "certificate", "no PEM file with certificates"),
    ("cut", "key", "certificate", "no PEM file with certificates"),
    ("certificate", "nowhere", "key", "cannot be read: No such file or directory"),
    ("certificate", "directory", "key", "cannot be read: Is a directory"),
    ("certificate", "junk", "key", "no PEM file with a private key"),
    ("certificate", "certificate", "key", "no PEM file with a private key"),
    ("certificate", "encrypted", "key", "is encrypted; store it without a passphrase, readable for the proxy only"),
    ("certificate", "other", "key", "does not fit the certificate in {section}.certificate"),
    ("certificate", "another algorithm", "key", "does not fit the certificate in {section}.certificate"),
]


@pytest.mark.parametrize("section", ["tls", "upstream"])
@pytest.mark.parametrize(("certificate", "key", "to_blame", "why"), BAD)
def test_a_pair_that_is_none_is_told_by_the_file_that_is_to_blame(
    files: dict[str, str], section: str, certificate: str, key: str, to_blame: str, why: str
) -> None:
    pair = Pem(f"{section}.certificate", files[certificate]), Pem(f"{section}.key", files[key])
    with pytest.raises(BadFile) as bad:
        server_context(*pair, None, "none", "1.2") if section == "tls" else client_context(None, *pair)
    path = files[{"certificate": certificate, "key": key}[to_blame]]
    assert str(bad.value) == f"{section}.{to_blame} = {path!r}: {why.format(section=section)}"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere", "cannot be read: No such file or directory"),
        ("junk", "no PEM file with certificates"),
        ("key", "no PEM file with certificates"),
        ("cut", "no PEM file with certificates"),
    ],
)
def test_authorities_that_are_none(files: dict[str, str], name: str, why: str) -> None:
    pair = Pem("tls.certificate", files["certificate"]), Pem("tls.key", files["key"])
    with pytest.raises(BadFile) as bad:
        server_context(*pair, Pem("tls.client_ca", files[name]), "required", "1.2")
    assert str(bad.value) == f"tls.client_ca = {files[name]!r}: {why}"
    with pytest.raises(BadFile) as bad:
        client_context(Pem("upstream.ca", files[name]), None, None)
    assert str(bad.value) == f"upstream.ca = {files[name]!r}: {why}"


def test_a_key_that_is_too_short_is_the_fault_of_its_certificate(tmp_path: Path) -> None:
    key, name, now = rsa.generate_private_key(65537, 1024), x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    weak = tmp_path / "weak.pem"
    weak.write_bytes(builder.sign(key, SHA256()).public_bytes(Encoding.PEM))
    pair = Pem("tls.certificate", str(weak)), Pem("tls.key", written(tmp_path / "key.pem", key, NoEncryption()))
    with pytest.raises(BadFile, match=r"tls\.certificate = .*weak\.pem': ee key too small"):
        server_context(*pair, None, "none", "1.2")


def test_certificate_and_key_may_lie_in_one_file(files: dict[str, str]) -> None:
    both = Pem("tls.certificate", files["both"]), Pem("tls.key", files["both"])
    assert server_context(*both, Pem("tls.client_ca", files["ca"]), "optional", "1.3").get_ca_certs()


def test_the_api_is_always_verified_with_its_name_and_by_nobody_but_whom_the_setting_names(
    files: dict[str, str],
) -> None:
    context = client_context(Pem("upstream.ca", files["ca"]), None, None)
    assert (context.verify_mode.name, context.check_hostname) == ("CERT_REQUIRED", True)
    assert len(context.get_ca_certs()) == 1
    system = client_context(None, None, None)
    assert (system.verify_mode.name, system.check_hostname) == ("CERT_REQUIRED", True)
