"""What serves, or could again, is never removed."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.release.state import Bundle, Canary, ModelRelease, ReleaseState
from tests.training.registry.making import adapter, memory_url, model, policy, registry_at, reward
from tests.training.registry.test_publishing import Failing, Killed
from training.errors import TrainingError
from training.registry.collect import DAY_S, Removable, collect, removable, served
from training.registry.layout import FileFacts, Kind, Release, Version
from training.registry.registry import Registry

NOW = 100 * DAY_S
NAMES: dict[Kind, list[str]] = {"policy": ["p", "q"], "reward_model": ["r"]}


def version(kind: Kind, name: str, number: int, **fields: object) -> Version:
    own = Version(
        kind=kind,
        name=name,
        number=number,
        adapter=kind == "policy",
        files={"weights": FileFacts("0" * 64, 1000)},
        facts={"created": number * DAY_S},
    )
    return msgspec.structs.replace(own, **fields)


def release(number: int, of: str = "m", policy: str | None = None, **fields: object) -> Release:
    own = Release(number=number, model=of, policy=policy, facts={"created": number * DAY_S})
    return msgspec.structs.replace(own, **fields)


def bundle(number: int, policy: int | None = None, reward: int | None = None) -> Bundle:
    return Bundle(
        release=number,
        policy="" if policy is None else f"p@{policy}",
        served_as=None if policy is None else f"p-v{policy}",
        reward=None if reward is None else f"r-{reward}",
    )


def serving(champion: Bundle, *previous: Bundle, canary: Canary | None = None) -> ReleaseState:
    return ReleaseState(models={"m": ModelRelease(champion=champion, canary=canary, previous=previous)})


FIVE = [version("policy", "p", number) for number in range(1, 6)]
RELEASES = [release(number, policy=f"policy:p@{number}") for number in range(1, 6)]


def decide(state: ReleaseState, keep: int = 0, days: float = 7.0, now: float = NOW) -> list[str]:
    return removable(FIVE, RELEASES, state, now=now, keep=keep, days=days).refs


def test_what_is_older_than_all_that_serves_may_go() -> None:
    assert decide(serving(bundle(4, 4), bundle(3, 3))) == ["release:1", "release:2", "policy:p@1", "policy:p@2"]


def test_what_is_newer_than_what_serves_may_be_waiting() -> None:
    assert decide(serving(bundle(1, 1))) == []


def test_while_nothing_was_ever_released_nothing_goes() -> None:
    assert decide(ReleaseState()) == []
    assert decide(serving(Bundle())) == []


def test_challenger_and_hold_back_stay() -> None:
    canary = Canary(bundle=bundle(1, 1), control=bundle(2, 2), salt="s", phase="watch", began=0)
    assert decide(serving(bundle(5, 5), canary=canary)) == ["release:3", "release:4", "policy:p@3", "policy:p@4"]


def test_an_anchor_stays() -> None:
    """Each KL is measured to it, however old it is."""
    found = removable(FIVE, [], serving(bundle(5, 5)), now=NOW, keep=0, days=7, anchors=["policy:p@2"])
    assert found.refs == ["policy:p@1", "policy:p@3", "policy:p@4"]


def test_the_latest_stay_and_so_does_what_is_young() -> None:
    state = serving(bundle(5, 5))
    assert decide(state, keep=2) == ["release:1", "release:2", "policy:p@1", "policy:p@2"]
    assert decide(state, now=8.5 * DAY_S) == ["release:1", "policy:p@1"]
    assert decide(state, days=0, now=0) == []


def test_a_version_whose_age_is_unknown_stays() -> None:
    unknown = [msgspec.structs.replace(one, facts={}) for one in FIVE]
    assert removable(unknown, [], serving(bundle(5, 5)), now=NOW, keep=0, days=7).versions == ()


def test_what_a_kept_version_was_made_from_stays() -> None:
    whole = version("policy", "p", 1, adapter=False)
    adapter_of_it = version("policy", "p", 2, parents=["policy:p@1"])
    started_there = version("policy", "p", 4, parents=["policy:p@2", "reward_model:r@1"])
    versions = [whole, adapter_of_it, version("policy", "p", 3), started_there]
    found = removable(versions, [], serving(bundle(4, 4)), now=NOW, keep=0, days=7)
    # @2 is what @4 started from, and @1 is the weights under @2.
    assert found.refs == ["policy:p@3"]
    assert found.bytes == 1000


@st.composite
def worlds(draw: st.DrawFn) -> tuple[list[Version], list[Release], ReleaseState]:
    numbers = st.integers(1, 6)
    versions = [
        version(
            kind,
            name,
            number,
            adapter=draw(st.booleans()) if kind == "policy" else False,
            parents=[
                f"{kind}:{name}@{draw(st.integers(1, number - 1))}"
                for _ in range(draw(st.integers(0, 2)))
                if number > 1
            ],
            facts=draw(st.sampled_from([{}, {"created": number * DAY_S}])),
        )
        for kind, names in NAMES.items()
        for name in names
        for number in range(1, draw(numbers) + 1)
    ]
    refs = [one.ref for one in versions]
    releases = [
        release(
            number,
            draw(st.sampled_from(["m", "n"])),
            draw(st.none() | st.sampled_from([ref for ref in refs if ref.startswith("policy")])),
            reward_model=draw(st.none() | st.sampled_from([ref for ref in refs if ref.startswith("reward")])),
        )
        for number in range(1, draw(numbers) + 1)
    ]
    bundles = st.builds(bundle, st.integers(0, 6), st.none() | numbers, st.none() | numbers)
    canaries = st.builds(
        Canary,
        bundle=bundles,
        control=bundles,
        salt=st.just("s"),
        phase=st.sampled_from(["shadow", "canary", "watch"]),
        began=st.just(0.0),
    )
    models = st.builds(
        ModelRelease, champion=bundles, canary=st.none() | canaries, previous=st.lists(bundles, max_size=3).map(tuple)
    )
    state = ReleaseState(models=draw(st.dictionaries(st.sampled_from(["m", "n"]), models)))
    return versions, releases, state


@settings(max_examples=150, deadline=None)
@given(world=worlds(), keep=st.integers(0, 2), days=st.floats(0, 120))
def test_never_what_serves_or_could_be_rolled_back_to(
    world: tuple[list[Version], list[Release], ReleaseState], keep: int, days: float
) -> None:
    versions, releases, state = world
    found = removable(versions, releases, state, now=NOW, keep=keep, days=days)
    gone = set(found.refs)
    assert not gone & served(state)
    left = [one for one in releases if one.ref not in gone]
    assert not gone & {ref for one in left for ref in (one.policy, one.reward_model)}
    for one in releases:
        if one.ref in gone:
            assert one.number < state.of(one.model).champion.release
    alive = served(state)
    for kept in versions:
        if kept.ref in alive:
            assert not gone & {parent for parent in kept.parents if parent.startswith(kept.kind)}
    for facts in [one.facts for one in found.versions] + [one.facts for one in found.releases]:
        assert facts["created"] < NOW - days * DAY_S
    # To keep more keeps what was kept.
    assert set(removable(versions, releases, state, now=NOW, keep=keep + 1, days=days).refs) <= gone


def published(registry: Registry, tmp_path: Path, count: int = 5) -> ReleaseState:
    """Versions with releases, of which the last two live."""
    for number in range(1, count + 1):
        folder = adapter(tmp_path / str(number), f"weights {number}".encode())
        one = registry.publish(policy(f"job {number}", name="p"), folder)
        registry.release(Release(number=0, model="m", policy=one.ref))
    return serving(bundle(count, count), bundle(count - 1, count - 1))


def run(registry: Registry, state: Callable[[], ReleaseState], *, dry_run: bool = False) -> Removable:
    return collect(registry, state, now=NOW, keep=0, days=7, dry_run=dry_run)


@pytest.mark.parametrize("url", ["folder", "memory"])
def test_a_collection_killed_anywhere_leaves_nothing_half(url: str, tmp_path: Path) -> None:
    ends = 0
    for at in range(60):
        place = tmp_path / str(at)
        registry = registry_at(str(place / "registry") if url == "folder" else memory_url(), place / "cache")
        state = published(registry, place, 3)
        storage = registry.storage
        registry.storage = Failing(storage, at)
        try:
            run(registry, lambda state=state: state)  # type: ignore[misc]
            ends += 1
        except Killed:
            pass
        registry.storage = storage
        for one in registry.versions("policy"):
            registry.verify(one.ref)
        there = {one.ref for one in registry.versions("policy")}
        assert {ref for one in registry.releases() for ref in one.digests} <= there
        run(registry, lambda state=state: state)  # type: ignore[misc]
        assert [one.label for one in registry.versions("policy")] == ["p@2", "p@3"]
        assert [one.number for one in registry.releases()] == [2, 3]
        files = [name for name, _ in registry.storage.list("policies/")]
        assert all(name.startswith(("policies/p@2/", "policies/p@3/")) for name in files)
        if ends > 1:
            return
    raise AssertionError("it never ended by itself")


def test_no_number_is_given_twice(tmp_path: Path) -> None:
    registry = registry_at(str(tmp_path / "registry"), tmp_path / "cache")
    one = registry.publish(policy("job", name="p"), adapter(tmp_path / "a"))
    state = serving(bundle(2, 2))
    run(registry, lambda: state)
    assert registry.versions("policy") == []
    assert registry.removed("policy")[0].was["files"] == msgspec.to_builtins(one.files)
    assert registry.publish(policy("job", name="p"), adapter(tmp_path / "a")).number == 2


def test_where_nobody_can_say_what_serves_nothing_goes(tmp_path: Path) -> None:
    registry = registry_at(str(tmp_path / "registry"), tmp_path / "cache")
    published(registry, tmp_path)

    def away() -> ReleaseState:
        raise TrainingError("Redis does not answer.")

    with pytest.raises(TrainingError, match="does not answer"):
        run(registry, away)
    assert len(registry.versions("policy")) == 5


def test_what_begins_to_serve_meanwhile_stays(tmp_path: Path) -> None:
    """Somebody rolls back while it is collected."""
    registry = registry_at(str(tmp_path / "registry"), tmp_path / "cache")
    before = published(registry, tmp_path)
    states = iter([before, before, before, before])
    run(registry, lambda: next(states, serving(bundle(2, 2))))
    assert [one.number for one in registry.releases()] == [4, 5]  # removed before
    assert [one.label for one in registry.versions("policy")] == ["p@2", "p@3", "p@4", "p@5"]


def test_a_dry_run_removes_nothing(tmp_path: Path) -> None:
    registry = registry_at(str(tmp_path / "registry"), tmp_path / "cache")
    state = published(registry, tmp_path)
    registry.publish(reward("r"), model(tmp_path / "reward"))
    found = run(registry, lambda: state, dry_run=True)
    assert found.refs == ["release:1", "release:2", "release:3", "policy:p@1", "policy:p@2", "policy:p@3"]
    assert found.bytes == sum(file.bytes for one in registry.versions("policy", "p")[:3] for file in one.files.values())
    assert len(registry.versions("policy")) == 5
