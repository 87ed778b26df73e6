"""What operators may change about the workers, and what becomes of the document: no I/O."""

import pytest

from gateway.errors import BadRequest, Conflict, NotFound
from gateway.shared.note import Note, note
from gateway.workers import fleet_state
from gateway.workers.fleet_state import FLEET, RETIRED_FOR_S, FleetState, PolicyFleet
from scorers.endpoint import Endpoint

NOTE = Note("key:a", 1000.0, "because")
ONE, TWO = "http://10.0.0.1:8000", "http://10.0.0.2:8000"
NOTHING = FleetState()


def of(state: FleetState) -> PolicyFleet:
    return state.of("p")


def test_an_added_worker_is_there_once() -> None:
    add = fleet_state.add_worker("p", TWO, {ONE}, NOTE)
    state = add(NOTHING)
    assert of(state).added == {TWO: NOTE}
    with pytest.raises(Conflict):
        add(state)
    with pytest.raises(Conflict):
        fleet_state.add_worker("p", ONE, {ONE}, NOTE)(state)


def test_a_worker_of_the_configuration_stays_removed_until_it_is_added() -> None:
    state = fleet_state.drain_workers([("p", ONE)], True, NOTE)(NOTHING)
    state = fleet_state.remove_workers([("p", ONE)], {"p": {ONE}}, NOTE)(state)
    assert of(state).removed == {ONE: NOTE} and not of(state).drained
    state = fleet_state.add_worker("p", ONE, {ONE}, NOTE)(state)
    assert not of(state).removed and not of(state).added


def test_an_added_worker_that_is_removed_leaves_nothing_behind() -> None:
    state = fleet_state.add_worker("p", TWO, {ONE}, NOTE)(NOTHING)
    state = fleet_state.remove_workers([("p", TWO)], {"p": {ONE}}, NOTE)(state)
    assert of(state) == PolicyFleet()


def test_a_server_of_two_policies_is_drained_for_both_and_the_first_note_stays() -> None:
    places = [("p", ONE), ("q", ONE)]
    state = fleet_state.drain_workers(places, True, NOTE)(NOTHING)
    again = fleet_state.drain_workers(places, True, Note("key:b", 2000.0))(state)
    assert again == state and of(state).drained == state.of("q").drained == {ONE: NOTE}
    back = fleet_state.drain_workers(places, False, NOTE)(state)
    assert not of(back).drained and not back.of("q").drained


def test_an_adapter_is_claimed_loaded_and_retired() -> None:
    claim = fleet_state.claim_adapter("p", "a", "/a", until=1300.0, now=1000.0)
    state = claim(NOTHING)
    assert of(state).retired == {"a": 1300.0} and not of(state).adapters
    with pytest.raises(Conflict, match="being loaded") as busy:
        claim(state)
    assert busy.value.retry_after
    state = fleet_state.keep_adapter("p", "a", "/a", NOTE)(state)
    assert of(state).adapters["a"].path == "/a" and not of(state).retired
    assert claim(state) == state
    with pytest.raises(Conflict, match="loaded from /a"):
        fleet_state.claim_adapter("p", "a", "/b", until=1300.0, now=1000.0)(state)
    state = fleet_state.retire_adapter("p", "a", unload_at=1060.0, now=1000.0)(state)
    assert not of(state).adapters and of(state).retired == {"a": 1060.0}
    with pytest.raises(NotFound):
        fleet_state.retire_adapter("p", "a", unload_at=1060.0, now=1000.0)(state)


def test_a_claim_runs_out_and_a_failed_load_frees_the_name() -> None:
    state = fleet_state.claim_adapter("p", "a", "/a", until=1300.0, now=1000.0)(NOTHING)
    assert of(fleet_state.claim_adapter("p", "a", "/b", until=1700.0, now=1301.0)(state)).retired == {"a": 1700.0}
    freed = fleet_state.give_up_adapter("p", "a", now=1010.0)(state)
    assert of(fleet_state.claim_adapter("p", "a", "/b", until=1400.0, now=1011.0)(freed)).retired == {"a": 1400.0}


def test_giving_up_does_not_touch_an_adapter_in_force() -> None:
    state = fleet_state.keep_adapter("p", "a", "/a", NOTE)(NOTHING)
    assert fleet_state.give_up_adapter("p", "a", now=1010.0)(state) == state


def test_adapters_that_went_long_ago_are_forgotten() -> None:
    state = FleetState(policies={"p": PolicyFleet(retired={"old": 1000.0, "new": 2000.0})})
    later = 1500.0 + RETIRED_FOR_S
    claimed = fleet_state.claim_adapter("p", "a", "/a", until=later + 300, now=later)(state)
    assert set(of(claimed).retired) == {"new", "a"}


def test_what_redis_lost_is_kept_and_what_others_began_anew_is_not() -> None:
    known = FleetState(7, "line", {"p": PolicyFleet(added={ONE: NOTE})})
    for lost in (FleetState(), FleetState(6, "line")):
        held, odd = FLEET.succeed(known, lost)
        assert held == known and odd
    for newer in (FleetState(8, "line"), FleetState(7, "line"), FleetState(1, "another")):
        assert FLEET.succeed(known, newer) == (newer, None)
    assert FLEET.succeed(None, FleetState()) == (FleetState(), None)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("10.0.0.1:8000", "must look like"),
        ("ftp://10.0.0.1", "must look like"),
        ("http://", "must look like"),
        ("http://10.0.0.1:99999", "not an address"),
        ("http://[::1", "not an address"),
        ("http://me:secret@10.0.0.1", "name or a password"),
        ("http://10.0.0.1?x=1", "must look like"),
        ("http://10.0.0.1/a b", "without spaces"),
        ("http://10.0.0.1/" + "a" * 500, "at most 500"),
    ],
)
def test_a_bad_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said) as refused:
        fleet_state.worker_url(url, Endpoint(ONE))
    assert refused.value.param == "url"


def test_a_key_that_goes_by_https_never_goes_by_http() -> None:
    with pytest.raises(BadRequest, match="https"):
        fleet_state.worker_url(TWO, Endpoint("https://10.0.0.1"))
    assert fleet_state.worker_url("https://10.0.0.2/", Endpoint("https://10.0.0.1")) == "https://10.0.0.2"
    assert fleet_state.worker_url(TWO + "/", Endpoint(ONE)) == TWO


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a" * 129, "p", "a\n"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        fleet_state.adapter_name(name, "p")
    assert refused.value.param == "name"


@pytest.mark.parametrize("path", ["", "relative", "a/b/c", "../up", "/" + "a" * 1024, "/a\nb", "a/.."])
def test_a_bad_path_is_refused(path: str) -> None:
    with pytest.raises(BadRequest) as refused:
        fleet_state.adapter_path(path)
    assert refused.value.param == "path"


def test_good_names_and_paths_pass() -> None:
    assert fleet_state.adapter_name("support-2.1_x", "p") == "support-2.1_x"
    assert fleet_state.adapter_path("/models/support 2") and fleet_state.adapter_path("someone/qwen3-sql")


@pytest.mark.parametrize("reason", ["a" * 501, "two\nlines"])
def test_a_reason_is_a_line(reason: str) -> None:
    with pytest.raises(BadRequest) as refused:
        note("key:a", 1.0, reason)
    assert refused.value.param == "reason"
