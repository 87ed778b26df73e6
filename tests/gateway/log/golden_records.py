"""One record of each kind with every field filled in, as the files in `golden/` hold them.

    python -m tests.gateway.log.golden_records

writes those of the current version, and its schema. It refuses a change that a reader of this version's records would
not survive: for that, raise SCHEMA_VERSION (see `gateway.log.migrations`) and run it again.
"""

import sys
from pathlib import Path
from typing import Any, get_args

import msgspec

from gateway.log.records import (
    SCHEMA_VERSION,
    CandidateRecord,
    Comparison,
    Feedback,
    FeedbackKind,
    Interaction,
    Piece,
    Record,
    ReleaseRecord,
    Round,
    ScoreRecord,
    Selection,
    ShadowScores,
    Timings,
    Usage,
    Verdict,
    encode,
)

FOLDER = Path(__file__).parent / "golden"
ANSWER = "chatcmpl-0198c0de-0000-7000-8000-00000000000a"
CREATED = 1_755_600_000.25
USER = "5f" * 16

VERDICT = Verdict(
    categories={"violence": 0.91, "self-harm": 0.5},
    flagged=["violence"],
    error="the second guard did not answer",
    unreadable=True,
    blocked=["violence"],
    noted=["self-harm"],
    guards={"safety@1": {"violence": 0.91, "self-harm": 0.5}},
)

COMPARISON = Comparison(shown=[1, 0], against="random", share=0.5, propensity=0.75)

RELEASE = ReleaseRecord(
    number=7,
    arm="challenger",
    stage=2,
    canary="0f" * 6,
    period="2",
    counted=True,
    fallback=True,
    safe_mode=True,
    pinned=True,
)

SCORE = ScoreRecord(value=1.25, calibrated=0.875, parts={"helpful": 1.5}, steps=[0.5, 0.75], error="slow")


def interaction() -> Interaction:
    candidate = CandidateRecord(
        index=0,
        message={"role": "assistant", "content": "Paris. \U0001f44d"},
        finish_reason="stop",
        completion_tokens=3,
        wave=1,
        seed=41,
        token_ids=[59, 7, 2],
        stop_reason=2,
        reward=1.25,
        reward_error="asked twice",
        verdict=VERDICT,
        propensity=0.75,
        broken="not JSON",
        finished_ms=250.5,
        scored_ms=300.25,
        scores={"reward@1": SCORE},
        pruned_by="sieve@2",
        second_check=VERDICT,
        logprobs=[-0.125, -2.5, -0.0],
    )
    piece = Piece(
        text="Pa",
        tokens=1,
        after=1,
        token_ids=[59],
        reward=0.5,
        reward_error="slow",
        verdict=VERDICT,
        finish_reason="stop",
        propensity=0.5,
        kept=True,
    )
    return Interaction(
        id=ANSWER,
        created=CREATED,
        model="demo",
        profile="default@3",
        policy="demo@1",
        strategy="best_of_n",
        outcome="delivered",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        parameters={"temperature": 0.7, "top_p": 0.9, "max_tokens": 16, "metadata": {"topic": "maps"}},
        candidates=[candidate],
        reward_model="reward@1",
        safety_model="safety@1",
        prompt_verdict=VERDICT,
        chosen=0,
        delivered=[0],
        n=4,
        asked=8,
        seed=40,
        stream=True,
        stream_mode="hold",
        endpoint="responses",
        degraded="load",
        error="half of it failed",
        status=503,
        user=USER,
        tenant="acme",
        tier="flex",
        usage=Usage(prompt_tokens=12, completion_tokens=3, sampled_tokens=24),
        timings=Timings(
            total_ms=321.5,
            guard_ms=4.25,
            queue_ms=1.5,
            first_candidate_ms=200.0,
            sampling_ms=250.5,
            scoring_tail_ms=50.0,
            overhead_ms=2.5,
            second_check_ms=9.0,
        ),
        second_check="safety@2",
        reference="Paris",
        selection=Selection(rule="softmax(0.1)", refusal=0.125, fallback=0.125, kl_bound=1.5),
        rounds=[Round([piece])],
        training="tenant",
        omitted=["media"],
        redacted={"email": 2},
        comparison=COMPARISON,
        session="6e" * 16,
        previous="chatcmpl-0198c0dd-0000-7000-8000-000000000009",
        release=RELEASE,
    )


_VALUES: dict[FeedbackKind, Any] = {
    "thumbs": True,
    "rating": 7,
    "preference": 3,
    "correction": "Paris, of course.",
    "comment": "Short and right.",
    "flag": "hallucination",
}


def feedback(kind: FeedbackKind) -> Feedback:
    return Feedback(
        id="0198c0df-0000-7000-8000-00000000000b",
        interaction=ANSWER,
        created=CREATED + 60,
        kind=kind,
        value=_VALUES[kind],
        candidate=0,
        over=1,
        user=USER,
        tags=["geography"],
        comment="Read it twice.",
        tenant="acme",
        retracted=True,
        training="shared",
        redacted={"phone": 1},
        shown=[1, 0],
        key="key-1",
        source="7a" * 16,
    )


def shadow() -> ShadowScores:
    return ShadowScores(
        id="0198c0df-0000-7000-8000-00000000000c",
        interaction=ANSWER,
        created=CREATED + 1,
        scorer="challenger@2",
        profile="default@3",
        reward_model="reward@1",
        scores={0: SCORE},
        winner=0,
        ms=12.5,
        tenant="acme",
    )


def everything() -> dict[str, Record]:
    """By the middle of their files' names."""
    votes = {f"feedback-{kind}": feedback(kind) for kind in _VALUES}
    return {"interaction": interaction(), **votes, "shadow": shadow()}


def schema() -> dict[str, Any]:
    """What JSON Schema says of the records, without the words."""
    _, found = msgspec.json.schema_components(get_args(Record), ref_template="{name}")
    for one in found.values():
        one.pop("description", None)
    return found


def breaking(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What of a schema's change a reader or a record of the same version would not survive. Pure.

    Fields that are new and have a default may come, and more values for a field; nothing may go.
    """
    found = [f"{name} is gone" for name in old.keys() - new.keys()]
    for name in old.keys() & new.keys():
        before, after = old[name], new[name]
        fields, now = before.get("properties", {}), after.get("properties", {})
        found += [f"{name}.{field} is gone" for field in fields.keys() - now.keys()]
        found += [
            f"{name}.{field} is required" for field in set(after.get("required", [])) - set(before.get("required", []))
        ]
        found += [
            f"{name}.{field} is another: {fields[field]} was {now[field]}"
            for field in fields.keys() & now.keys()
            if not _wider(fields[field], now[field])
        ]
    return sorted(found)


def _wider(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether all that was allowed still is, with the same default."""
    if before == after:
        return True
    same = {key: value for key, value in before.items() if key not in ("enum", "anyOf")} == {
        key: value for key, value in after.items() if key not in ("enum", "anyOf")
    }
    sets = all(set(map(str, before.get(key, []))) <= set(map(str, after.get(key, []))) for key in ("enum", "anyOf"))
    return same and sets


def file_of(version: int, name: str) -> Path:
    return FOLDER / f"v{version}-{name}.json"


def schema_text() -> str:
    return msgspec.json.format(msgspec.json.encode(schema(), order="sorted"), indent=2).decode() + "\n"


def main() -> None:
    kept = file_of(SCHEMA_VERSION, "schema")
    broken = breaking(msgspec.json.decode(kept.read_bytes()), schema()) if kept.exists() else []
    if broken:
        sys.exit("Raise SCHEMA_VERSION and write its migration; version " + f"{SCHEMA_VERSION}: {'; '.join(broken)}.")
    kept.write_text(schema_text())
    for name, record in everything().items():
        file_of(SCHEMA_VERSION, name).write_bytes(encode(record) + b"\n")


if __name__ == "__main__":
    main()
