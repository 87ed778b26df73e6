"""What is kept, of whom; and what of one record then is."""

import base64

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from gateway.config import LogConfig, parse
from gateway.ids import new_completion_id, tagged
from gateway.log.privacy.identity import unnamed, without_user
from gateway.log.privacy.policy import Policies, Rule, TenantLog, sampled
from gateway.log.privacy.treatment import Privacy, policies_of, rule_of
from gateway.log.records import Interaction
from gateway.signing import Signer
from tests.gateway.log.log_samples import interaction, thumb

DEFAULTS = rule_of(LogConfig().keep)


def policies(model: Rule | None = None, tenant: TenantLog | None = None, overall: Rule = DEFAULTS) -> Policies:
    return Policies(overall, {"m": model or Rule()}, lambda _: tenant)


def privacy(found: Policies | None = None, **settings: object) -> Privacy:
    return Privacy(found or policies(), LogConfig.model_validate(settings), CollectorRegistry())


def test_by_default_texts_are_kept_and_redacted_media_is_not_and_nothing_may_be_trained_on() -> None:
    found = policies().of("m", "default")
    assert (found.store, found.share, found.prompts, found.media, found.training) == (True, 1.0, True, False, "none")
    assert found.redact == ("email", "phone", "card", "iban", "secret", "ip")


shares = st.one_of(st.none(), st.floats(0, 1))
flags = st.one_of(st.none(), st.booleans())


@given(shares, shares, shares, flags, flags, flags)
def test_the_strictest_word_holds(
    share: float | None,
    of_model: float | None,
    of_tenant: float | None,
    one: bool | None,
    two: bool | None,
    three: bool | None,
) -> None:
    overall = Rule(1.0 if share is None else share, one is not False, True, ())
    found = policies(Rule(of_model, two, three), TenantLog(share=of_tenant, prompts=three), overall).of("m", "t")
    assert found.share == min(overall.share or 0.0, *(1.0 if x is None else x for x in (of_model, of_tenant)))
    assert found.prompts == (False not in (one, two, three))
    assert found.media == (three is not False)


def test_what_is_redacted_is_said_by_the_nearest_and_of_feedback_by_all() -> None:
    model, tenant = Rule(redact=("card",)), TenantLog(redact=())
    overall = Rule(1.0, True, True, ("email",))
    assert policies(None, None, overall).of("m", "t").redact == ("email",)
    assert policies(model, None, overall).of("m", "t").redact == ("card",)
    assert policies(model, None, overall).of_feedback("t").redact == ("email", "card")
    assert (
        policies(model, tenant, overall).of("m", "t").redact
        == policies(model, tenant, overall).of_feedback("t").redact
        == ()
    )


def test_a_model_and_a_tenant_say_it_in_the_configuration_and_the_store() -> None:
    config = parse(
        {
            "log": {"keep": {"media": True}},
            "policies": {"p": {"model": "x"}},
            "profiles": {"default": {"reward": None, "safety": None}},
            "models": {"m": {"policy": "p", "profile": "default", "log": {"share": 0.5, "redact": ["ip"]}}},
        }
    )
    found = policies_of(config, {"shop": TenantLog(training="tenant")}.get)
    assert (found.of("m", "shop").share, found.of("m", "shop").redact, found.of("m", "shop").media) == (
        0.5,
        ("ip",),
        True,
    )
    assert (found.of("m", "shop").training, found.of("m", "other").training) == ("tenant", "none")
    assert found.of("other", "other").share == 1.0


def test_gateways_agree_on_what_is_sampled_and_a_larger_share_holds_the_smaller() -> None:
    ids = [new_completion_id() for _ in range(4000)]
    half = {one for one in ids if sampled(one, 0.5)}
    assert {one for one in ids if sampled(one, 0.2)} < half
    assert half == {one for one in ids if sampled(tagged(one, Signer(b"0" * 16, 1).tag("t")), 0.5)}
    # Within five standard deviations of a half.
    assert abs(len(half) - 2000) < 5 * 31.7
    assert all(sampled(one, 1.0) for one in ids) and not any(sampled(one, 0.0) for one in ids)


def test_an_opt_out_goes_before_the_share() -> None:
    found = policies(tenant=TenantLog(store=False, share=0.0)).of("m", "t")
    identifier = new_completion_id()
    assert found.unstored(identifier, asked=False) == "request"
    assert found.unstored(identifier, asked=True) == "tenant"
    assert policies(Rule(share=0.0)).of("m", "t").unstored(identifier, asked=True) == "sampled_out"
    assert policies().of("m", "t").unstored(identifier, asked=True) is None


def prepared(record: Interaction, found: Policies) -> Interaction:
    left, _ = privacy(found).prepared(record)
    assert isinstance(left, Interaction)
    return left


def test_without_prompts_only_the_answers_are_left() -> None:
    record = interaction(
        model="m", reference="42", parameters={"temperature": 0.5, "stop": ["x"], "tools": [{"type": "function"}]}
    )
    left = prepared(record, policies(Rule(prompts=False)))
    assert (left.messages, left.reference, left.parameters) == ([], None, {"temperature": 0.5})
    assert left.candidates == record.candidates
    assert left.omitted == ["prompts"]


def test_an_image_becomes_its_kind_and_size_and_text_beside_it_stays() -> None:
    data = base64.b64encode(b"x" * 1000).decode()
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}},
        {"type": "file", "file": {"filename": "ada.pdf", "file_data": f"data:application/pdf;base64,{data}"}},
        {"type": "from_the_future", "x": data},
    ]
    left = prepared(interaction(messages=[{"role": "user", "content": content}]), policies())
    assert left.messages[0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "omitted": {"media_type": "image/png", "bytes": 1000}},
        {"type": "image_url", "omitted": {"media_type": None, "bytes": None}},
        {"type": "input_audio", "omitted": {"media_type": None, "bytes": 1000}},
        {"type": "file", "omitted": {"media_type": "application/pdf", "bytes": 1000}},
        {"type": "from_the_future", "omitted": {"media_type": None, "bytes": 1000}},
    ]
    assert left.omitted == ["media"]
    kept = prepared(
        interaction(model="m", messages=[{"role": "user", "content": content}]),
        policies(overall=Rule(1.0, True, True, ())),
    )
    assert kept.messages[0]["content"] == content and kept.omitted == []


def test_a_record_says_how_much_was_taken_out_of_it() -> None:
    record = interaction(messages=[{"role": "user", "content": "ada@example.com, bob@example.com, 10.1.2.3"}])
    assert prepared(record, policies()).redacted == {"email": 2, "ip": 1}


def test_a_flags_reason_stays_what_it_was_when_the_vote_was_taken() -> None:
    """It is part of what a later vote replaces."""
    found = privacy()
    vote = found.received(msgspec.structs.replace(thumb("chatcmpl-1"), kind="flag", value="ask ada@example.com"))
    again, _ = found.prepared(vote)
    assert vote.value == again.value == "ask [EMAIL]"  # type: ignore[union-attr]


def test_a_tenants_redactor_that_this_gateway_lacks_is_replaced_by_all_that_are_always_there() -> None:
    left = prepared(
        interaction(messages=[{"role": "user", "content": "10.1.2.3"}]),
        policies(tenant=TenantLog(redact=("elsewhere",))),
    )
    assert left.messages[0]["content"] == "[IP]"


def test_before_the_archive_the_slow_ones_run() -> None:
    found = privacy(policies(overall=Rule(1.0, True, False, ("email",))), redact_archive=["ip"])
    record, _ = found.prepared(interaction(messages=[{"role": "user", "content": "ada@example.com 10.1.2.3"}]))
    archived, counts = found.archived(record)
    assert isinstance(archived, Interaction)
    assert archived.messages[0]["content"] == "[EMAIL] [IP]"
    assert archived.redacted == {"email": 1, "ip": 1} and counts == {"ip": 1}


def test_the_user_is_nowhere_in_the_parameters() -> None:
    left = without_user(
        {
            "temperature": 1,
            "prompt_cache_key": "ada-7",
            "metadata": {"user_id": "u-1", "note": "ada", "topic": "plants"},
            "end_user": "ada",
            "stop": ["ada", "x"],
            "chat_template_kwargs": {"who": "ada", "mode": "fast"},
        },
        "ada",
    )
    assert left == {
        "temperature": 1, "metadata": {"topic": "plants"}, "stop": ["x"], "chat_template_kwargs": {"mode": "fast"}
    }  # fmt: skip
    assert without_user({"metadata": {"user": "ada", "topic": "x"}}, None) == {"metadata": {"topic": "x"}}


def test_the_session_is_nowhere_in_the_parameters() -> None:
    left = without_user(
        {
            "metadata": {"session_id": "ada's", "Thread_ID": "t-1", "note": "ada's", "topic": "plants"},
            "chat_template_kwargs": {"of": "ada's"},
            "trace": "ada's",
        },
        "bob",
        "ada's",
    )
    assert left == {"metadata": {"topic": "plants"}, "chat_template_kwargs": {}}
    assert without_user({"metadata": {"chat_id": 7, "topic": "x"}}, None) == {"metadata": {"topic": "x"}}


def test_a_message_named_after_the_user_loses_the_name() -> None:
    messages = [{"role": "user", "name": "ada", "content": "I am ada"}, {"role": "user", "name": "bob", "content": "x"}]
    assert unnamed(messages, "ada") == [{"role": "user", "content": "I am ada"}, messages[1]]
    assert unnamed(messages, None) is messages
