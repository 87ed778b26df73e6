import json
from dataclasses import replace
from typing import Any

import pytest

from gateway.access.caller import Caller
from gateway.api.protocol import ChatRequest, parse_chat
from gateway.config import Config, parse
from gateway.control.plan import Plan, make_plan
from gateway.control.profiles import ModelDirectory, ProfileStore
from gateway.errors import BadRequest, Forbidden, ModelNotFound
from gateway.release.route import Route

CONFIG: Config = parse(
    {
        "policies": {"p": {"model": "x", "version": 3}},
        "scorers": {"reward": {"kind": "reward", "model": "x"}, "safety": {"kind": "safety", "model": "x"}},
        "profiles": {
            "default": {"n": 4, "max_n": 8, "max_tokens": 50, "max_tokens_limit": 100},
            "other": {"n": 2, "show_candidates": False, "temperature": 0.7},
            "cold": {"temperature": 0},
            "firm": {"n": 4, "min_n": 2, "max_n": 8},
            "bare": {"n": 1, "reward": None, "safety": None},
            "live": {"stream_mode": "first", "budget_ms": 900},
            "asking": {"comparison": {"share": 0.1}},
            "asking-all": {"comparison": {"share": 0.1, "ask": "all"}},
            "checked": {"n": 1, "reward": None, "safety": None, "second_check": "safety"},
        },
        "models": {"m": {"policy": "p", "profile": "default"}},
    }
)

ROUTE = Route(None, "p@3")
ANYONE = Caller("default", None, frozenset({"chat"}))


def plan(**fields: Any) -> Plan:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    request = parse_chat(json.dumps(body).encode())
    return plan_for(request, ANYONE)


def plan_for(request: ChatRequest, caller: Caller) -> Plan:
    model = ModelDirectory(CONFIG).get(request.model, caller)
    return make_plan(request, caller, model, ROUTE, ProfileStore(CONFIG.profiles), 120.0)


def test_a_plain_request_gets_the_models_profile() -> None:
    found = plan()
    assert (found.n, found.deliver, found.max_tokens, found.strategy) == (4, 1, 50, "best_of_n")
    assert (found.profile.version, found.policy_version) == ("default@1", "p@3")


def test_sampled_are_the_larger_of_the_strategys_n_and_the_clients() -> None:
    assert (plan(n=6).n, plan(n=6).deliver) == (6, 6)
    assert (plan(n=2).n, plan(n=2).deliver) == (4, 2)
    assert (plan(n=2, guidance={"n": 3}).n) == 3


def test_n_shrinks_no_further_than_the_profile_and_the_clients_choices_allow() -> None:
    assert (plan().n, plan().least) == (4, 1)
    assert plan(n=3).least == 3
    firm = {"profile": "firm"}
    assert (plan(guidance=firm).n, plan(guidance=firm).least) == (4, 2)
    assert plan(guidance={**firm, "n": 1}).least == 1
    assert plan(guidance=firm, temperature=0).least == 1


def test_a_request_gets_the_class_it_asks_for_up_to_its_tenants() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "service_tier": "priority"}
    request = parse_chat(json.dumps(body).encode())
    assert plan_for(request, ANYONE).tier == "default"
    assert plan_for(request, replace(ANYONE, tier="priority")).tier == "priority"
    assert "service_tier" not in plan_for(request, ANYONE).sampling


@pytest.mark.parametrize(
    ("fields", "param", "limit"),
    [
        ({"guidance": {"n": 9}}, "guidance.n", "8"),
        ({"guidance": {"n": 0}}, "guidance.n", "8"),
        ({"n": 9}, "n", "8"),
        ({"max_tokens": 101}, "max_tokens", "100"),
        ({"guidance": {"budget": {"ms": 0}}}, "guidance.budget.ms", "120000"),
        ({"guidance": {"budget": {"ms": 120_001}}}, "guidance.budget.ms", "120000"),
        ({"guidance": {"profile": "nope"}}, "guidance.profile", "default"),
        ({"guidance": {"strategy": "magic"}}, "guidance.strategy", "best_of_n"),
        ({"guidance": {"stream_mode": "block"}}, "guidance.stream_mode", "best_of_n"),
        ({"stream": True, "n": 2, "guidance": {"stream_mode": "first"}}, "n", "one answer"),
        ({"guidance": {"n": 4, "stream_mode": "first"}}, "guidance.n", "one sample"),
        ({"guidance": {"profile": "live", "budget": {"ms": 901}}}, "guidance.budget.ms", "900"),
        ({"echo": True}, "echo", "judged"),
        ({"prompt_logprobs": 1}, "prompt_logprobs", "guided"),
        ({"use_beam_search": True, "guidance": {"profile": "bare", "n": 2}}, "use_beam_search", "beam"),
        ({"guidance": {"profile": "other", "return_candidates": True}}, "guidance.return_candidates", "profile"),
        ({"echo": True, "guidance": {"profile": "checked"}}, "echo", "judged"),
        ({"n": 2, "temperature": 0}, "n", "temperature 0"),
    ],
)
def test_beyond_a_bound_is_a_400_naming_field_and_limit(fields: dict[str, Any], param: str, limit: str) -> None:
    with pytest.raises(BadRequest) as caught:
        plan(**fields)
    assert caught.value.param == param
    assert limit in caught.value.message


def test_an_unknown_model_is_a_404_that_lists_what_there_is() -> None:
    with pytest.raises(ModelNotFound, match="Available: m"):
        plan(model="gpt-4o")


def test_at_temperature_zero_one_candidate_is_sampled() -> None:
    assert (plan(temperature=0).n, plan(temperature=0).strategy) == (1, "greedy")
    assert plan(guidance={"profile": "cold"}).strategy == "greedy"


def test_the_profiles_temperature_holds_where_the_request_names_none() -> None:
    assert plan(guidance={"profile": "other"}).sampling["temperature"] == 0.7
    assert plan(guidance={"profile": "other"}, temperature=1.5).sampling["temperature"] == 1.5
    assert "temperature" not in plan().sampling


def test_guidance_seed_comes_before_the_requests() -> None:
    assert plan(seed=1, guidance={"seed": 2}).seed == 2
    assert plan(seed=1).seed == 1


def test_one_sample_is_streamed_live_where_profile_or_request_wants_it() -> None:
    assert plan(stream=True).live is None
    wished = plan(stream=True, guidance={"stream_mode": "first"})
    assert (wished.live, wished.n) == ("first", 1)
    assert plan(stream=False, guidance={"stream_mode": "first"}).live is None
    by_profile = plan(stream=True, guidance={"profile": "live"})
    assert (by_profile.live, by_profile.budget_s) == ("first", 0.9)
    assert plan(stream=True, guidance={"profile": "live", "stream_mode": "hold"}).live is None
    # Several choices cannot be streamed from one sample: they are held, unless that is what the request forbids.
    several = plan(stream=True, n=2, guidance={"profile": "live"})
    assert (several.live, several.deliver) == (None, 2)


def test_what_cannot_be_judged_passes_where_nothing_is_judged() -> None:
    assert plan(echo=True, guidance={"profile": "bare"}).sampling["echo"] is True
    assert plan(guidance={"profile": "bare"}).streamable is True
    assert plan(prompt_logprobs=0, guidance={"profile": "bare"}).streamable is False


def test_a_tenant_sees_only_its_models_and_profiles() -> None:
    tenant = Caller("acme", "k", frozenset({"chat"}), frozenset({"other-model"}), frozenset({"other"}))
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    with pytest.raises(ModelNotFound, match="Available: none"):
        plan_for(parse_chat(json.dumps(body).encode()), tenant)
    may = Caller("acme", "k", frozenset({"chat"}), None, frozenset({"other"}))
    assert plan_for(parse_chat(json.dumps(body).encode()), may).profile.name == "default"
    wished = body | {"guidance": {"profile": "cold"}}
    with pytest.raises(Forbidden, match="cold"):
        plan_for(parse_chat(json.dumps(wished).encode()), may)


@pytest.mark.parametrize(
    ("fields", "comparable"),
    [
        ({"guidance": {"profile": "asking"}}, False),
        ({"guidance": {"profile": "asking", "comparison": True}}, True),
        ({"guidance": {"profile": "asking-all"}}, True),
        ({"guidance": {"profile": "asking-all", "comparison": False}}, False),
        ({"guidance": {"profile": "other", "comparison": True}}, False),
        ({"guidance": {"profile": "asking-all"}, "stream": True}, True),
        ({"guidance": {"profile": "asking-all", "stream_mode": "first"}, "stream": True}, False),
        ({"guidance": {"profile": "asking-all"}, "n": 2}, False),
        ({"guidance": {"profile": "asking-all"}, "temperature": 0}, False),
    ],
)
def test_two_are_compared_where_the_client_can_show_them(fields: dict[str, Any], comparable: bool) -> None:
    assert plan(**fields).comparable is comparable
