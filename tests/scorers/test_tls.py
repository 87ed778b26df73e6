"""Contexts from files: what is refused at the start and in which words, and what a handshake then does."""

import ssl
import subprocess
from pathlib import Path

import pytest

from scorers.errors import ConfigurationError
from scorers.settings import Tls
from scorers.tls import client_context, refusal, server_context, tls_problem, trusting
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_nothing_set_leaves_the_usual_verification_alone() -> None:
    assert client_context("redis", Tls()) is None


def test_verify_false_accepts_anyone(authority: Authority) -> None:
    client = client_context("redis", Tls(verify=False))
    assert client is not None and refusal(authority.server(), client, "127.0.0.1") is None


def test_an_authority_of_ones_own_is_trusted_and_it_alone(authority: Authority, tmp_path: Path) -> None:
    client = client_context("redis", Tls(ca_file=authority.ca_file))
    assert client is not None
    assert refusal(authority.server(), client, "127.0.0.1") is None
    assert refusal(authority.server(), client, "localhost") is None
    other = Authority(tmp_path, "other")
    assert "an authority that is not trusted here" in str(refusal(other.server(), client, "127.0.0.1"))
    assert len(client.get_ca_certs()) == 1


def test_a_servers_own_certificate_is_enough(authority: Authority) -> None:
    issued = authority.issue()
    shown = server_context("scorer_server", issued.cert_file, issued.key_file)
    assert shown is not None
    assert refusal(shown, trusting("x.ca_file", issued.cert_file), "127.0.0.1") is None
    assert refusal(authority.server("elsewhere.test"), trusting("x.ca_file", issued.cert_file), "127.0.0.1")


def test_expired_and_misnamed_are_told_apart(authority: Authority) -> None:
    client = trusting("x.ca_file", authority.ca_file)
    assert refusal(authority.server(expired=True), client, "127.0.0.1") == "its certificate has expired"
    assert "for another name" in str(refusal(authority.server("elsewhere.test"), client, "127.0.0.1"))
    assert "for another name" in str(refusal(authority.server("elsewhere.test"), client, "localhost"))
    by_any_name = trusting("x.ca_file", authority.ca_file, any_name=True)
    assert refusal(authority.server("elsewhere.test"), by_any_name, "127.0.0.1") is None


def test_one_file_may_hold_certificate_and_key(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue()
    both = tmp_path / "both.pem"
    both.write_bytes(issued.cert_file.read_bytes() + issued.key_file.read_bytes())
    assert server_context("gateway", both, None) is not None
    assert client_context("redis", Tls(cert_file=both)) is not None


def test_files_that_cannot_be_used_are_told_with_their_keys(authority: Authority, tmp_path: Path) -> None:
    issued, other = authority.issue(), Authority(tmp_path, "other").issue()
    nothing, text = tmp_path / "nothing", tmp_path / "text"
    text.write_text("no PEM")
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkey", "-in", str(issued.key_file), "-aes256", "-passout", "pass:x", "-out", str(encrypted)]
    subprocess.run(command, check=True)
    for tls, said in (
        (Tls(ca_file=nothing), "redis.ca_file: there is no file"),
        (Tls(ca_file=text), "redis.ca_file: .* holds no certificate in PEM form"),
        (Tls(ca_file=issued.key_file), "redis.ca_file: .* holds no certificate in PEM form"),
        (Tls(cert_file=nothing), "redis.cert_file: there is no file"),
        (Tls(cert_file=issued.cert_file, key_file=nothing), "redis.key_file: there is no file"),
        (Tls(cert_file=issued.cert_file), "redis.cert_file: .* must hold a certificate and its key"),
        (Tls(cert_file=text, key_file=issued.key_file), "redis.cert_file: .* must hold a certificate and its key"),
        (Tls(cert_file=issued.cert_file, key_file=other.key_file), "redis.cert_file: .* do not belong together"),
        (Tls(cert_file=issued.cert_file, key_file=encrypted), "redis.key_file: .* needs a passphrase"),
    ):
        with pytest.raises(ConfigurationError, match=said) as caught:
            client_context("redis", tls)
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ConfigurationError, match=r"gateway\.tls_cert_file: there is no file"):
        server_context("gateway", nothing, None)


def test_the_word_is_found_behind_other_errors() -> None:
    from_peer, to_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
    from_peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    client = ssl.create_default_context().wrap_bio(from_peer, to_peer, server_hostname="localhost")
    with pytest.raises(ConnectionError) as caught:
        try:
            client.do_handshake()
        except ssl.SSLError as error:
            raise ConnectionError("Error 1 connecting") from error
    assert tls_problem(caught.value) == "it does not speak TLS on this port"
    assert tls_problem(ConnectionRefusedError(111, "refused")) is None
