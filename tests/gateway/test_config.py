"""The configuration file: what is refused, in which words, and its generated example."""

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from gateway.config import Config, dump, load, parse
from gateway.errors import ConfigError
from gateway.launch.demo import demo_config
from gateway.launch.example import example

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "bestow.example.yaml"


def mistakes(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(data, source="file")
    return str(caught.value).splitlines()


def test_the_example_is_up_to_date() -> None:
    assert EXAMPLE.read_text() == example(demo_config()), "run `make config`"


def test_the_example_is_the_demo() -> None:
    assert load(EXAMPLE) == demo_config()


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A section and all that are in it."""
    found = [model]
    for field in model.model_fields.values():
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found += sections(inner)
    return found


def test_the_example_has_every_key_with_its_sentence() -> None:
    text = " ".join(EXAMPLE.read_text().replace("#", " ").split())
    for section in sections(Config):
        for name, field in section.model_fields.items():
            assert f"{name}:" in text, name
            assert field.description and " ".join(field.description.split()) in text, name


def test_an_unknown_key_is_named_with_a_way_to_find_the_right_one() -> None:
    assert mistakes({"gateway": {"prot": 1}}) == [
        "file: gateway.prot: there is no such key; `bestow config example` prints all of them"
    ]


def test_every_mistake_is_a_line() -> None:
    assert len(mistakes({"gateway": {"port": "x"}, "redis": {"port": 70000}, "log": {"flush_ms": 0}})) == 3


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"gateway": {"port": "many"}}, "gateway.port"),
        ({"gateway": []}, "gateway"),
        ({"redis": {"url": "http://x"}}, "redis.url"),
        ({"policies": {"p": {}}}, "policies.p.model"),
        ({"policies": {"p": {"model": "m", "workers": [{"url": "x"}]}}}, "policies.p.workers.0.url"),
        ({"scorers": {"s": {"kind": "critic", "model": "m"}}}, "scorers.s.kind"),
        ({"profiles": {"d": {"n": 9, "max_n": 8, "reward": None, "safety": None}}}, "profiles.d"),
        ({"profiles": {"d": {"category_thresholds": {"x": 2}}}}, "profiles.d.category_thresholds"),
        ({"policies": {"a b": {"model": "m"}}}, "policies.a b"),
        ({"profiles": {"d": {"safety": 5}}}, "profiles.d.safety"),
        ({"profiles": {"d": {"safety": ["ok", "a b"]}}}, "profiles.d.safety"),
        ({"profiles": {"d": {"category_actions": {"x": "rewrite"}}}}, "profiles.d.category_actions.x"),
        ({"profiles": {"d": {"prune": [{"scorer": "s", "keep": 0}]}}}, "profiles.d.prune.0.keep"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_key(data: dict[str, Any], key: str) -> None:
    (line,) = mistakes(data)
    assert line.startswith(f"file: {key}: ") and len(line) > len(f"file: {key}: ")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"models": {"m": {"policy": "p"}}},
            "file: models.m.policy: no policy 'p' (there is none)",
        ),
        (
            {"policies": {"p": {"model": "x"}}, "models": {"m": {"policy": "p", "profile": "d"}}},
            "file: models.m.profile: no profile 'd' (there is none)",
        ),
        (
            {"profiles": {"d": {"safety": None}}},
            "file: profiles.d.reward: no scorer 'reward' (there is none)",
        ),
        (
            {"scorers": {"r": {"kind": "safety", "model": "x"}}, "profiles": {"d": {"reward": "r", "safety": None}}},
            "file: profiles.d.reward: scorer 'r' of kind 'safety' gives no number that ranks answers",
        ),
    ],
)
def test_a_name_that_leads_nowhere_is_said(data: dict[str, Any], line: str) -> None:
    assert mistakes(data) == [line]


SCORERS = {
    **{name: {"kind": "reward", "model": "x"} for name in ("reward", "small", "tiny")},
    **{name: {"kind": "safety", "model": "x"} for name in ("safety", "other")},
}


def of_profile(**profile: Any) -> dict[str, Any]:
    return {"scorers": SCORERS, "profiles": {"d": profile}}


@pytest.mark.parametrize(
    ("profile", "line"),
    [
        ({"prune": [{"scorer": "no", "keep": 2}]}, "d.prune.0.scorer: no scorer 'no' (there is other, reward, safety,"),
        ({"prune": [{"scorer": "safety", "keep": 2}], "safety": None}, "d.prune.0.scorer: scorer 'safety' of kind"),
        ({"shadow": ["small", "other"]}, "d.shadow.1: scorer 'other' of kind 'safety' gives no number"),
        ({"safety": ["safety", "small"]}, "d.safety.1: scorer 'small' of kind 'reward' gives no categories"),
        ({"second_check": "small"}, "d.second_check: scorer 'small' of kind 'reward' gives no categories"),
        ({"second_check": "no"}, "d.second_check: no scorer 'no'"),
    ],
)
def test_each_scorer_of_a_profile_must_give_what_it_is_named_for(profile: dict[str, Any], line: str) -> None:
    [found] = mistakes(of_profile(**profile))
    assert found.startswith(f"file: profiles.{line}")


@pytest.mark.parametrize(
    ("profile", "line"),
    [
        ({"prune": [{"scorer": "reward", "keep": 2}]}, "prune.0.scorer and reward both name the scorer 'reward'"),
        ({"shadow": ["reward"]}, "reward and shadow.0 both name the scorer 'reward'"),
        ({"second_check": "safety"}, "safety and second_check both name the scorer 'safety'"),
        ({"safety": ["other", "other"]}, "safety.0 and safety.1 both name the scorer 'other'"),
    ],
)
def test_a_scorer_has_one_part_in_a_profile(profile: dict[str, Any], line: str) -> None:
    assert mistakes(of_profile(**profile)) == [f"file: profiles.d: {line}: keep one of them"]


@pytest.mark.parametrize(
    ("profile", "line"),
    [
        ({"reward": None, "prune": [{"scorer": "small", "keep": 2}]}, "prune needs reward, the scorer that decides"),
        ({"max_n": 8, "prune": [{"scorer": "small", "keep": 8}]}, "prune.0.keep (8) gives up nothing: max_n is 8"),
        (
            {"prune": [{"scorer": "tiny", "keep": 4}, {"scorer": "small", "keep": 4}]},
            "prune.1.keep (4) gives up nothing: the stage before keeps 4",
        ),
    ],
)
def test_a_stage_that_could_prune_nothing_is_said(profile: dict[str, Any], line: str) -> None:
    [found] = mistakes(of_profile(**profile))
    assert found.startswith(f"file: profiles.d: {line}")


def test_guards_are_one_several_or_none() -> None:
    for given, guards in (("safety", ("safety",)), (["other", "safety"], ("other", "safety")), ([], ()), (None, ())):
        assert parse(of_profile(safety=given)).profiles["d"].guards == guards


def test_shadow_scorers_decide_nothing() -> None:
    profile = parse(of_profile(shadow=["tiny"], prune=[{"scorer": "small", "keep": 4}], second_check="other"))
    assert profile.profiles["d"].deciding == ["small", "reward", "safety", "other"]


@pytest.mark.parametrize(
    ("text", "said"),
    [(b"a: [", "not valid YAML"), (b"- a", "must hold keys and values"), (b"\xff\xfe", "cannot be read")],
)
def test_a_file_that_is_no_configuration_is_said(tmp_path: Path, text: bytes, said: str) -> None:
    file = tmp_path / "b.yaml"
    file.write_bytes(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load(file)
    assert len(str(caught.value).splitlines()) == 1


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("")
    assert load(tmp_path / "b.yaml") == Config()


def test_what_is_dumped_is_read_back() -> None:
    assert parse(yaml.safe_load(dump(demo_config()))) == demo_config()
