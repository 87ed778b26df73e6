"""What the server takes from the configuration file, and how mistakes in it are told."""

from pathlib import Path

import pytest

from scorers.configuration import read_settings
from scorers.errors import ConfigurationError

SCORER = "scorers: {a: {kind: reward, model: m"


def write(folder: Path, text: str) -> Path:
    path = folder / "bestow.yaml"
    path.write_text(text)
    return path


def test_scorers_without_an_address_are_served_and_other_keys_ignored(tmp_path: Path) -> None:
    settings = read_settings(
        write(
            tmp_path,
            "models: {x: 1}\nscorers: {a: {kind: reward, model: m}, b: {kind: reward, model: m, url: 'http://x:1'}}\n"
            "scorer_server: {port: 9}\n",
        )
    )
    assert list(settings.scorers) == ["a"]
    assert settings.server.port == 9


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scorers: {a: {kind: nope, model: m}}", "scorers.a.kind"),
        ("scorers: {a: {kind: reward, model: m, modle: x}}", "scorers.a.modle: there is no such key"),
        ("scorers: {a: {kind: reward}}", "scorers.a.model"),
        ("scorers: {a b: {kind: reward, model: m}}", "scorers.a b"),
        ("scorers: {}", "no scorer to serve"),
        ("scorers: {b: {kind: reward, model: m, url: 'http://x:1'}}", "no scorer to serve"),
        (
            f"{SCORER}, api_key_file: k, api_key_env: K, url: 'http://x:1'}}}}",
            "scorers.a: api_key_file and api_key",
        ),
        (f"{SCORER}, api_key_env: 'a b', url: 'http://x:1'}}}}", "scorers.a.api_key_env"),
        (f"{SCORER}, api_key_file: k}}}}", "scorers.a: api_key_file is for a scorer with a url"),
        (f"{SCORER}, ca_file: c}}}}", "scorers.a: ca_file is for a scorer with a url"),
        (f"{SCORER}, ca_file: c, url: 'http://x:1'}}}}", "scorers.a: ca_file would do nothing"),
        (f"{SCORER}, ca_file: c, verify: false, url: 'https://x:1'}}}}", "scorers.a: verify: false checks nothing"),
        (f"{SCORER}, key_file: c, url: 'https://x:1'}}}}", "scorers.a: key_file needs cert_file"),
        (f"{SCORER}, url: 'https://me:pass@x:1'}}}}", "scorers.a: url holds a name or a password"),
        ("scorer_server: {api_key_file: k, api_key_env: K}", "scorer_server: api_key_file and api_key_env"),
        ("scorer_server: {tls_key_file: k}", "scorer_server: tls_key_file needs tls_cert_file"),
        ("[1]", "must hold keys and values"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_its_key(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(write(tmp_path, text))
    assert says in str(caught.value) and "pass@" not in str(caught.value)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bestow.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_settings(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_settings(tmp_path)
