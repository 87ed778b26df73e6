"""TLS in both directions: the contexts that clients and servers use, and a plain word for what went wrong.

A client verifies the server's certificate and its name, by the system's store unless `ca_file` names another authority.
"""

import ssl
from pathlib import Path

from scorers.credentials import read_file
from scorers.errors import ConfigurationError
from scorers.settings import Tls

_UNTRUSTED = {18, 19, 20, 21, 2, 27}  # self-signed, an issuer that is missing or not trusted
_NOT_YET, _EXPIRED = 9, 10
_OTHER_NAME = {62, 64}  # host name, IP address


def client_context(where: str, tls: Tls) -> ssl.SSLContext | None:
    """How to call a server; None where the usual verification is all that is asked for.

    Raises ConfigurationError, naming the key under `where`.
    """
    if tls.verify and tls.ca_file is None and tls.cert_file is None:
        return None
    context = trusting(f"{where}.ca_file", tls.ca_file) if tls.ca_file else ssl.create_default_context()
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file is not None:
        _load_chain(context, f"{where}.cert_file", tls.cert_file, f"{where}.key_file", tls.key_file)
    return context


def server_context(where: str, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext | None:
    """What a server of ours shows (`where`.tls_cert_file); None where it speaks plain HTTP.

    Raises ConfigurationError.
    """
    if cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load_chain(context, f"{where}.tls_cert_file", cert_file, f"{where}.tls_key_file", key_file)
    return context


def trusting(key: str, ca_file: Path, *, any_name: bool = False) -> ssl.SSLContext:
    """A client's context that trusts the certificates in one file alone, be they an authority's or a server's own.

    any_name: for a server of ours, known by its very certificate and called by an address that may not be in it.
    """
    read_file(key, ca_file, 1)
    try:
        context = ssl.create_default_context(cafile=str(ca_file))
    except ssl.SSLError:
        raise ConfigurationError(f"{key}: {ca_file} holds no certificate in PEM form.") from None
    # A server's own certificate is enough, without its issuer (what Python does by itself from 3.13 on).
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = not any_name
    return context


class _Encrypted(Exception):
    """OpenSSL asked for a passphrase."""


def _no_passphrase() -> bytes:
    raise _Encrypted  # else OpenSSL would ask on the terminal, and a service would wait for ever


def _load_chain(context: ssl.SSLContext, cert_key: str, cert_file: Path, key_key: str, key_file: Path | None) -> None:
    read_file(cert_key, cert_file, 1)
    if key_file is not None:
        read_file(key_key, key_file, 1)
    both = f"{cert_file} and {key_file}" if key_file else str(cert_file)
    try:
        context.load_cert_chain(cert_file, key_file, _no_passphrase)
    except _Encrypted:
        raise ConfigurationError(
            f"{key_key if key_file else cert_key}: the key in {key_file or cert_file} needs a passphrase; "
            "give one that needs none, readable by this user alone."
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigurationError(f"{cert_key}: {both} do not belong together: another certificate's key.") from None
        raise ConfigurationError(f"{cert_key}: {both} must hold a certificate and its key, in PEM form.") from None


def refusal(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> str | None:
    """Why this client, calling this server by that name, would refuse it; None where it would not. In memory alone."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(3):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return tls_problem(error)
    return None


def tls_problem(error: BaseException | None) -> str | None:
    """What is wrong with TLS, in words, where that is why a call failed; None where it is something else."""
    while error is not None:
        # aiohttp's subclasses of SSLError have none of OpenSSL's fields; those are in their cause.
        if not hasattr(error, "library"):
            pass
        elif isinstance(error, ssl.SSLCertVerificationError):
            return _certificate_problem(error)
        elif isinstance(error, ssl.SSLError):
            return _protocol_problem(error)
        error = error.__cause__ or error.__context__
    return None


def _certificate_problem(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate has expired"
    if code == _NOT_YET:
        return "its certificate is not valid yet"
    if code in _OTHER_NAME:
        return f"its certificate is for another name ({error.verify_message})"
    if code in _UNTRUSTED:
        return f"its certificate comes from an authority that is not trusted here ({error.verify_message})"
    return f"its certificate is refused ({error.verify_message or error.reason})"


def _protocol_problem(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "it does not speak TLS on this port"
    if reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED":
        return "it wants a client certificate (cert_file and key_file)"
    if reason in ("TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED"):
        return "it refuses our client certificate (cert_file)"
    if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
        return "it refuses our TLS, perhaps for want of a client certificate (cert_file and key_file)"
    return f"TLS failed ({reason.lower().replace('_', ' ') or error.strerror or 'no reason given'})"
