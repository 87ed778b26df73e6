"""Releases are made of what gates passed, and served as they were made."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.config import Config
from gateway.launch.demo import demo_config
from gateway.release.checks import check_bundle
from gateway.release.voiding import voided
from tests.training.registry.making import (
    SNAPSHOT,
    adapter,
    gated,
    memory_url,
    model,
    policy,
    registry_at,
    report,
    reward,
)
from training.errors import TrainingError
from training.gates.standing import lifted, veto
from training.registry.layout import Release
from training.registry.registry import Registry
from training.registry.releasing import create, objections, read_calibration, to_bundle
from training.reward.versions import Card

DATA = f"snapshot:{SNAPSHOT}"
PASSED = [report(DATA, "G0 data")]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_at(str(tmp_path / "registry"), tmp_path / "cache")


@pytest.fixture
def settings() -> Config:
    return demo_config(Path("/nowhere"))


def test_what_passed_may_be_released() -> None:
    version = policy("job", number=2)
    assert objections(version, [report(version.ref, "G2 policy")], PASSED, erased=False) == []


def test_each_objection_is_a_sentence() -> None:
    version = policy("job", number=2)
    ref = version.ref
    assert objections(version, [], PASSED, erased=False) == [
        f"{ref} was not gated: there is no report of G2 policy (bestow train gate --help)"
    ]
    unmeasured = report(ref, "G2 policy", "unmeasured")
    assert objections(version, [unmeasured], PASSED, erased=False) == [f"{ref}: win rate: It wins .55 of 400."]
    assert "has learned from a person" in objections(version, [report(ref, "G2 policy")], PASSED, erased=True)[0]
    assert objections(version, [report(ref, "G2 policy")], [], erased=False)[0].startswith(f"{DATA} was not gated")
    of_another_gate = report(ref, "G1 reward model")
    assert "no report of G2" in objections(version, [of_another_gate], PASSED, erased=False)[0]


def test_the_latest_report_counts_and_a_veto_until_it_is_lifted() -> None:
    version = policy("job", number=2)
    good, bad = report(version.ref, "G2 policy"), report(version.ref, "G2 policy", "fail")
    no, yes = veto(version.ref, "ann", "it flatters", 1.0), lifted(version.ref, "ann", "a mistake", 2.0)
    assert objections(version, [bad, good], PASSED, erased=False) == []
    assert len(objections(version, [good, bad], PASSED, erased=False)) == 1
    assert objections(version, [no, good], PASSED, erased=False) == [f"{version.ref} was vetoed by ann: it flatters"]
    assert objections(version, [good, no, yes], PASSED, erased=False) == []


def test_a_second_opinion_is_never_served() -> None:
    version = reward("job", number=1, measures={"jobs": ["job"], "split": "holdout"})
    assert "second opinion" in objections(version, [report(version.ref, "G1 reward model")], PASSED, erased=False)[0]


def test_a_release_holds_what_it_was_made_on(registry: Registry, settings: Config, tmp_path: Path) -> None:
    own = gated(registry, registry.publish(policy("job"), adapter(tmp_path / "p"), above=1))
    ranks = gated(registry, registry.publish(reward("job"), model(tmp_path / "r")))
    made = create(
        registry, settings, "bestow-demo", own.ref, ranks.ref, {"n": 4, "selection": {"beta": 2.0, "rule": "pessimism"}}
    )
    assert made.passed
    assert made.verdicts == {ref: registry.named_verdicts(ref)[0][0] for ref in (own.ref, ranks.ref)}
    assert made.digests == {ref: registry.digest(ref) for ref in (own.ref, ranks.ref)}
    assert create(registry, settings, "bestow-demo", own.ref, ranks.ref, made.calibration) == made


def test_what_did_not_pass_is_refused_or_forced_with_a_reason(
    registry: Registry, settings: Config, tmp_path: Path
) -> None:
    own = registry.publish(policy("job"), adapter(tmp_path / "p"), above=1)
    registry.add_verdicts(own.ref, report(own.ref, "G2 policy", "fail"))
    with pytest.raises(
        TrainingError, match=r"No release: policy:demo-policy@2: win rate failed: It wins .* \(and 1 more"
    ):
        create(registry, settings, "bestow-demo", own.ref, None)
    assert registry.releases() == []
    forced = create(registry, settings, "bestow-demo", own.ref, None, force="a demonstration")
    assert (forced.passed, forced.reason) == (False, "a demonstration")
    assert len(forced.facts["objections"]) == 2


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"model": "other"}, "no model 'other'"),
        ({"policy": None}, "would change nothing"),
        ({"calibration": {"safety": None}}, "--calibration: safety: a release may set"),
        ({"calibration": {"options": {"price": 0.1}}}, "best_of_n has no such option"),
        ({"policy": "policy:other@1"}, "is a version of other"),
    ],
)
def test_what_could_not_be_served_is_refused(
    asked: dict[str, Any], said: str, registry: Registry, settings: Config, tmp_path: Path
) -> None:
    gated(registry, registry.publish(policy("job"), adapter(tmp_path / "p"), above=1))
    registry.publish(policy("job", name="other"), adapter(tmp_path / "p"))
    words: dict[str, Any] = {"model": "bestow-demo", "policy": "policy:demo-policy@2", "reward_model": None, **asked}
    with pytest.raises(TrainingError, match=said):
        create(registry, settings, **words, force="because")


def test_an_adapter_for_other_weights_is_refused(registry: Registry, tmp_path: Path) -> None:
    from training.jobs.models import weights_digest  # noqa: PLC0415

    base = model(tmp_path / "training" / "demo" / "models" / "policy")
    settings, digest = demo_config(tmp_path), weights_digest(base)
    own = registry.publish(
        policy("job", base={"model": str(base), "weights": digest}), adapter(tmp_path / "p"), above=1
    )
    create(registry, settings, "bestow-demo", own.ref, None, force="because")
    (base / "model.safetensors").write_bytes(b"others")
    with pytest.raises(TrainingError, match="was trained on other weights"):
        create(registry, settings, "bestow-demo", own.ref, None, force="because")


def test_a_bundle_is_what_gateways_take(registry: Registry, settings: Config, tmp_path: Path) -> None:
    own = registry.publish(policy("job"), adapter(tmp_path / "p"), above=1)
    ranks = registry.publish(reward("job"), model(tmp_path / "r"))
    made = create(
        registry, settings, "bestow-demo", own.ref, ranks.ref, {"n": 4, "scorer": {"dtype": "bfloat16"}}, "test"
    )
    bundle = to_bundle(registry, made, "demo-policy")
    folder = tmp_path / "registry"
    assert (bundle.release, bundle.policy, bundle.served_as) == (1, "demo-policy@2", "demo-policy-v2")
    assert bundle.path == str(folder / "policies" / "demo-policy@2")
    assert bundle.reward == "reward-1"
    assert bundle.scorer == {"kind": "reward", "model": str(folder / "reward-models" / "reward@1"), "dtype": "bfloat16"}
    assert bundle.settings == {"n": 4}
    assert bundle.digest == registry.release_digest(1)
    profile = settings.profiles["default"]
    check_bundle(bundle, "demo-policy", 1, profile, set(), set(settings.scorers))
    assert (voided(profile, bundle).reward, voided(profile, bundle).n) == ("reward-1", 4)


def test_whole_weights_have_no_path(registry: Registry, tmp_path: Path) -> None:
    own = registry.publish(policy("job", adapter=False), model(tmp_path / "p"), above=1)
    bundle = to_bundle(registry, registry.release(Release(number=0, model="m", policy=own.ref)), "demo-policy")
    assert (bundle.served_as, bundle.path, bundle.reward) == ("demo-policy-v2", None, None)


def test_a_registry_elsewhere_is_brought_here(tmp_path: Path) -> None:
    registry = registry_at(memory_url(), tmp_path / "cache")
    own = registry.publish(policy("job"), adapter(tmp_path / "p"), above=1)
    bundle = to_bundle(registry, registry.release(Release(number=0, model="m", policy=own.ref)), "demo-policy")
    assert bundle.path is not None
    assert (Path(bundle.path) / "adapter_model.safetensors").read_bytes() == b"weights"


def test_what_was_changed_since_is_not_served(registry: Registry, tmp_path: Path) -> None:
    own = registry.publish(policy("job"), adapter(tmp_path / "p"), above=1)
    made = registry.release(Release(number=0, model="m", policy=own.ref))
    folder = tmp_path / "registry" / "policies" / "demo-policy@2"
    (folder / "adapter_model.safetensors").write_bytes(b"WEIGHTS")
    with pytest.raises(TrainingError, match=r"adapter_model\.safetensors is damaged"):
        to_bundle(registry, made, "demo-policy")
    changed = msgspec.structs.replace(own, method="other")
    (folder / "version.json").write_bytes(msgspec.json.encode(changed))
    with pytest.raises(TrainingError, match="is not what release 1 was made of"):
        to_bundle(registry, made, "demo-policy")
    with pytest.raises(TrainingError, match="is served by the policy other"):
        to_bundle(registry, msgspec.structs.replace(made, digests={}), "other")


def test_a_calibration_is_settings_or_a_card(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("n: 4\nselection: {beta: 2}\n")
    assert read_calibration(file) == {"n": 4, "selection": {"beta": 2}}
    file.write_text('{"model": "m", "recommendations": [{"target": "gain=0.9", "settings": {"n": 6}, "because": "."}]}')
    assert read_calibration(file) == {"n": 6}
    file.write_text("- n\n")
    with pytest.raises(TrainingError, match="has no settings"):
        read_calibration(file)


def a_reward_model(folder: Path, number: int, *jobs: str) -> Path:
    model(folder, " ".join(jobs).encode())
    model(folder / "seeds" / "1")
    (folder / "ensemble.json").write_text("{}")
    values: dict[str, Any] = {
        "name": "reward",
        "version": number,
        "scope": "tenant:default",
        "split": "train",
        "base": {"model": "/models/policy", "weights": "b" * 64},
        "snapshot": {"id": SNAPSHOT, "url": "/snapshots/5"},
        "settings": {"method": "full"},
        "rate": 1e-3,
        "weights": "a" * 64,
        "a": 1.0,
        "b": 0.0,
        "served_seed": 0,
        "seeds": [0, 1],
        "data": {},
        "left_out": {},
        "jobs": list(jobs),
        "code": {},
        "report": {"split": "test"},
    }
    (folder / "card.json").write_bytes(msgspec.json.encode(Card(**values)))
    return folder


def test_a_reward_model_is_published_under_its_number(registry: Registry, tmp_path: Path) -> None:
    folder = a_reward_model(tmp_path / "reward@3", 3, "j0", "j1")
    version = registry.publish_reward_model(folder)
    assert version.ref == "reward_model:reward@3"
    assert set(version.files) == {"config.json", "model.safetensors", "card.json", "ensemble.json"}  # no other seeds
    assert (version.snapshot, version.measures["jobs"], version.facts["made_as"]) == (
        SNAPSHOT,
        ["j0", "j1"],
        "reward@3",
    )
    assert registry.publish_reward_model(folder) == version


def test_a_reward_model_that_was_not_measured_is_not_published(registry: Registry, tmp_path: Path) -> None:
    folder = a_reward_model(tmp_path / "reward@1", 1, "j")
    card = msgspec.json.decode((folder / "card.json").read_bytes(), type=Card)
    (folder / "card.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(card, report=None)))
    with pytest.raises(TrainingError, match="was not measured yet"):
        registry.publish_reward_model(folder)
