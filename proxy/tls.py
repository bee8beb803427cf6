"""From PEM files to TLS contexts, at one place: what cannot be used is told by its setting, its value and the reason.

Contexts are made anew when the files are read again: tickets and sessions of an old context are of no use with a new
one, so that nobody who is no longer trusted comes back by resuming (RFC 8446 §2.2).
"""

import ssl
from pathlib import Path
from typing import Literal, NamedTuple

_ALPN = ["http/1.1"]
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_MISFITS = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}
"""What OpenSSL says where key and certificate are no pair; the last, where not even their algorithm is the same."""


class BadFile(Exception):
    """A file cannot be used. The message names its setting and its path, and says why; nothing of its content."""


class Pem(NamedTuple):
    """A PEM file, and the setting that names it."""

    setting: str
    path: str

    def bad(self, why: str) -> BadFile:
        """What to raise."""
        return BadFile(f"{self.setting} = {self.path!r}: {why}")


class _Encrypted(Exception):
    """The key asks for a passphrase. OpenSSL itself would ask on the terminal."""


def server_context(
    certificate: Pem,
    key: Pem,
    client_ca: Pem | None,
    client_certificates: Literal["none", "optional", "required"],
    min_version: Literal["1.2", "1.3"],
) -> ssl.SSLContext:
    """For the listener; raise BadFile."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = _VERSIONS[min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(_ALPN)
    _prove(context, certificate, key)
    if client_ca is not None:
        _trust(context, client_ca)
    context.verify_mode = _VERIFY[client_certificates]
    return context


def client_context(ca: Pem | None, certificate: Pem | None, key: Pem | None) -> ssl.SSLContext:
    """Towards the API, whose certificate and name are verified: by the authorities in *ca*, or by the system's; raise
    BadFile."""
    if ca is None:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies both by itself, and trusts nobody yet
        _trust(context, ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(_ALPN)
    if certificate is not None and key is not None:
        _prove(context, certificate, key)
    return context


def _trust(context: ssl.SSLContext, authorities: Pem) -> None:
    _check_readable(authorities)
    try:
        context.load_verify_locations(cafile=authorities.path)
    except ssl.SSLError:
        raise authorities.bad("no PEM file with certificates") from None


def _prove(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    _trust(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certificate)  # OpenSSL does not say which of the two is no PEM
    _check_readable(key)
    try:
        context.load_cert_chain(certificate.path, key.path, _passphrase)
    except _Encrypted:
        raise key.bad("is encrypted; store it without a passphrase, readable for the proxy only") from None
    except ssl.SSLError as error:
        if error.reason in _MISFITS:
            raise key.bad(f"does not fit the certificate in {certificate.setting}") from None
        if error.reason:  # too short a key, too weak a hash
            raise certificate.bad(error.reason.lower().replace("_", " ")) from None
        raise key.bad("no PEM file with a private key") from None


def _check_readable(pem: Pem) -> None:
    """The errors of OpenSSL do not tell a file that is not there from one that is nonsense."""
    try:
        with Path(pem.path).open("rb"):
            pass
    except OSError as error:
        raise pem.bad(f"cannot be read: {error.strerror}") from None


def _passphrase() -> str:
    raise _Encrypted
