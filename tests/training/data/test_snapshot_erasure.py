"""Who was erased is in no later snapshot and is taken out of those there are, and models that saw them are named."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway.log.erase.commands import erase_app, hold_app
from tests.gateway.log.archive.archiving import ship
from tests.gateway.log.conftest import RedisServer
from tests.gateway.log.erase.people import traces
from tests.training.data.snapshot_logs import (
    archive_all,
    asked,
    bestow_train,
    hashed,
    interactions_in,
    made,
    preferred,
    said,
    sides,
    snapshots_in,
    thumbs,
)
from tests.training.registry.making import adapter, policy, registry_at
from training.data.layout import Snapshot, open_snapshot
from training.registry.layout import Release


def erase(config: Path, user: str, code: int = 0) -> str:
    done = CliRunner().invoke(erase_app, ["--user", user, "--yes", "--config", str(config)])
    assert done.exit_code == code, done.output
    return done.stdout


def model(config: Path, name: str, snapshot: str | None, *parents: str) -> Path:
    folder = config.parent / "training/reward-models" / name
    folder.mkdir(parents=True)
    card = {"name": name, "snapshot": {"id": snapshot} if snapshot else {}, "parents": list(parents)}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def people_in(snapshot: Snapshot) -> set[str]:
    return {person for side in sides(snapshot) for person in side.people}


def command(*arguments: str | Path) -> str:
    result = bestow_train(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def test_who_is_erased_is_left_out_while_their_records_still_lie_in_the_archive(
    config: Path, redis_server: RedisServer
) -> None:
    theirs, others = asked("ada"), asked("bob")
    votes = [said("ada", theirs), said("ada", others, value=False), said("bob", others), said("bob", theirs)]
    ship(redis_server, theirs, others, *votes)
    archive_all(config)
    parts = {path: path.read_bytes() for path in (config.parent / "archive").rglob("*.parquet")}
    erase(config, "ada")
    for path, data in parts.items():  # As from a backup.
        path.write_bytes(data)
    snapshot = made(config)
    assert interactions_in(snapshot) == {others.id}
    assert thumbs(snapshot) == {others.id: True}
    assert people_in(snapshot) == {hashed("bob")}
    assert snapshot.manifest.facts["erased"] == 1


def test_a_legal_hold_keeps_records_and_trains_nothing(config: Path, redis_server: RedisServer) -> None:
    ship(redis_server, theirs := asked("ada"), others := asked("bob"), said("ada", theirs))
    CliRunner().invoke(hold_app, ["add", "--user", "ada", "--reason", "case 7", "--config", str(config)])
    erase(config, "ada", 1)
    assert interactions_in(made(config)) == {others.id}


def test_snapshots_are_rewritten_and_the_models_that_saw_them_named(config: Path, redis_server: RedisServer) -> None:
    theirs, others, untouched = asked("ada"), asked("bob", "Why is the sky blue?"), asked("cleo", "What is 2 + 2?")
    votes = [
        preferred("ada", theirs, 2, 0),
        said("bob", others),
        preferred("ada", others, 0, 1),
        said("cleo", untouched),
    ]
    ship(redis_server, theirs, others, untouched, *votes)
    old = made(config)
    child, saw, other = (
        model(config, "child@1", None, "saw@1"),
        model(config, "saw@1", old.manifest.id),
        model(config, "other@1", "f" * 64),
    )
    assert "saw@1" in command("lineage", "--user", "ada", "--config", config)
    told = erase(config, "ada")
    assert "bestow train forget" in told and "bestow train lineage --erased" in told
    shown = command("lineage", "--erased", "--config", config)
    assert old.url in shown and "saw@1" in shown and "child@1" in shown and "other@1" not in shown
    done = command("forget", "--config", config)
    assert "saw@1 has seen somebody" in done and "child@1 has seen somebody" in done
    [path] = snapshots_in(config)
    new = open_snapshot(str(path))
    assert (new.manifest.replaces, new.manifest.erased) == (old.manifest.id, [theirs.id])
    assert new.manifest.id != old.manifest.id and not Path(old.url).exists()
    assert people_in(new) == {hashed("bob"), hashed("cleo")}
    assert interactions_in(new) == {others.id, untouched.id}
    assert thumbs(new) == {others.id: True, untouched.id: True}
    [mark] = json.loads((saw / "erased.json").read_text())
    assert (mark["snapshot"], len(mark["orders"])) == (old.manifest.id, 1)
    assert (child / "erased.json").exists() and not (other / "erased.json").exists()
    for sought in (["--user", "ada"], ["--interaction", theirs.id], ["--erased"]):
        after = command("lineage", *sought, "--config", config)
        assert "saw@1" in after and "child@1" in after and old.manifest.id[:12] in after
    assert command("forget", "--config", config).startswith("No snapshot has rows")


def test_policies_and_releases_that_learned_of_them_are_marked(config: Path, redis_server: RedisServer) -> None:
    ship(redis_server, asked("ada"), asked("bob", "Why is the sky blue?"))
    snapshot, home = made(config).manifest.id, config.parent / "training"
    registry = registry_at(str(home / "registry"), home / "cache")
    own = registry.publish(policy("a", snapshot=snapshot), adapter(home / "jobs" / "a"), above=1)
    by_reward = registry.publish(
        policy("b", snapshot="f" * 64, parents=["reward_model:reward@1"]), adapter(home / "jobs" / "b"), above=1
    )
    other = registry.publish(policy("c", snapshot="f" * 64), adapter(home / "jobs" / "c"), above=1)
    model(config, "reward@1", snapshot)  # never published
    for version in (own, other):
        registry.release(Release(number=0, model="m", policy=version.ref))
    shown = command("lineage", "--user", "ada", "--config", config)
    assert all(name in shown for name in (own.ref, by_reward.ref, "reward@1", "release:1"))
    assert other.ref not in shown and "release:2" not in shown
    described = command("lineage", own.ref, "--config", config)
    assert f"model     {own.ref}\n{own.ref}  made of {snapshot[:12]}" in described
    erase(config, "ada")
    done = command("forget", "--config", config)
    assert f"{own.ref} has seen somebody who was erased since: train it again" in done
    assert "release:1 has seen somebody who was erased since: make it anew" in done
    assert registry.erased() == {own.ref, by_reward.ref, "release:1"}
    command("forget", "--config", config)
    assert len(registry.storage.list("erased/")) == 3


def test_nothing_of_them_is_left_in_the_folder(config: Path, redis_server: RedisServer) -> None:
    ship(redis_server, theirs := asked("ada", "My secret-question?"), asked("bob"), said("ada", theirs))
    made(config)
    erase(config, "ada")
    command("forget", "--config", config)
    left = asyncio.run(traces(None, [config.parent / "training"], [hashed("ada").encode(), b"secret-question"]))
    assert left == []


def test_what_else_was_made_of_it_goes_too(config: Path, redis_server: RedisServer) -> None:
    ship(redis_server, asked("ada"), asked("bob", "Why is the sky blue?"))
    snapshot, home = made(config).manifest.id, config.parent / "training"
    for other, kept in ((snapshot, False), ("another", True)):
        for name, content in (
            (f"evaluations/{other}/asked.json", {"set": {"snapshot": other}, "a": {}}),
            (f"jobs/{other}/manifest.json", {"kind": "reward", "snapshot": other}),
        ):
            (home / name).parent.mkdir(parents=True)
            (home / name).write_text(json.dumps(content))
        (home / f"snapshots/.label-{kept}").mkdir()
        (home / f"snapshots/.label-{kept}/of").write_text(other)
    erase(config, "ada")
    assert "Deleted 3 evaluations, unfinished trainings and labellings" in command("forget", "--config", config)
    for folder in ("evaluations", "jobs"):
        assert [path.name for path in (home / folder).iterdir()] == ["another"]
    assert [path.name for path in (home / "snapshots").glob(".label-*")] == [".label-True"]
    assert "Deleted" not in command("forget", "--config", config)


def test_rows_of_votes_on_others_answers_go_too(config: Path, redis_server: RedisServer) -> None:
    ship(redis_server, one := asked("bob"), said("bob", one), preferred("ada", one, 2, 0))
    old = made(config)
    assert hashed("ada") in people_in(old)
    erase(config, "ada")
    command("forget", "--config", config)
    [path] = snapshots_in(config)
    assert people_in(open_snapshot(str(path))) == {hashed("bob")}
    assert old.manifest.id[:12] in command("lineage", "--user", "ada", "--config", config)


def test_two_erasures_one_after_the_other_leave_a_chain(config: Path, redis_server: RedisServer) -> None:
    records = [asked(user, f"Question of {user}?") for user in ("ada", "bob", "cleo")]
    ship(redis_server, *records)
    first = made(config)
    model(config, "first@1", first.manifest.id)
    erase(config, "ada")
    command("forget", "--config", config)
    second = snapshots_in(config)[0]
    model(config, "second@1", open_snapshot(str(second)).manifest.id)
    erase(config, "bob")
    command("forget", "--config", config)
    ada, bob = (command("lineage", "--user", user, "--config", config) for user in ("ada", "bob"))
    assert "first@1" in ada and "second@1" not in ada
    assert "first@1" in bob and "second@1" in bob
    told = command("lineage", first.manifest.id[:12], "--config", config)
    assert "It was rewritten" in told and "first@1" in told
    assert "rewritten since" in command("lineage", "first@1", "--config", config)


def test_the_same_name_at_another_tenant_is_somebody_else(config: Path, redis_server: RedisServer) -> None:
    ship(redis_server, asked("ada"), asked("ada", tenant="acme"))
    own, theirs = made(config), made(config, "--tenant", "acme")
    shown = command("lineage", "--user", "ada", "--tenant", "acme", "--config", config)
    assert theirs.url in shown and own.url not in shown


def test_a_snapshot_that_lies_elsewhere_is_rewritten_there(
    config: Path, redis_server: RedisServer, tmp_path: Path
) -> None:
    ship(redis_server, asked("ada"), other := asked("bob"))
    command("snapshot", "--to", tmp_path / "there", "--config", config)
    erase(config, "ada")
    command("forget", "--config", config)
    [path] = (tmp_path / "there").iterdir()
    assert interactions_in(open_snapshot(str(path))) == {other.id}
    assert path.name in command("lineage", "--config", config)


def test_an_overview_and_a_description(config: Path, redis_server: RedisServer) -> None:
    assert "There are no snapshots" in command("lineage", "--config", config)
    ship(redis_server, asked("ada"))
    snapshot = made(config)
    model(config, "r@1", snapshot.manifest.id)
    assert "r@1" in command("lineage", "--config", config)
    assert snapshot.manifest.id in command("lineage", snapshot.url, "--config", config)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--user", "ada", "--erased"], "Look for one thing"),
        (["nobody@7"], "is no snapshot or model here"),
        (["--interaction", "x"], "is not the id of an answer"),
    ],
)
def test_a_wrong_question_is_one_sentence(
    config: Path, redis_server: RedisServer, arguments: list[str], told: str
) -> None:
    result = bestow_train("lineage", *arguments, "--config", config)
    assert result.exit_code == 1
    assert told in str(result.exception) + result.stderr
