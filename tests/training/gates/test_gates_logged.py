"""Which logged prompts the simulated deployment asks."""

from typing import Any

from gateway.log.own_requests import mark
from gateway.log.records import Interaction
from training.gates.logged import usable


def asked(text: str, **known: Any) -> Interaction:
    values: dict[str, Any] = {
        "id": f"chatcmpl-{text}",
        "created": 0.0,
        "model": "m",
        "profile": "default@1",
        "policy": "p@1",
        "strategy": "best_of_n",
        "outcome": "delivered",
        "messages": [{"role": "user", "content": text}],
        "parameters": {},
        "candidates": [],
        "training": "tenant",
        "user": f"u-{text[0]}",
        **known,
    }
    return Interaction(**values)


def texts(*records: Interaction, most: int = 10) -> list[str]:
    return [item.turns[0][-1]["content"] for item in usable(records, "m", most)]


def test_each_prompt_once_newest_first_and_no_more_than_asked_for() -> None:
    assert texts(asked("a"), asked("b"), asked("a"), asked("c"), most=2) == ["a", "b"]


def test_what_may_not_train_is_of_another_model_ours_or_no_text_is_left_out() -> None:
    records = (
        asked("private", training="none"),
        asked("other", model="x"),
        asked("own", parameters={"metadata": mark("evaluate")}),
        asked("raw", endpoint="completions"),
        asked("tools", parameters={"tools": [{}]}),
        asked("picture", messages=[{"role": "user", "content": [{"type": "image_url"}]}]),
        asked("kept"),
    )
    assert texts(*records) == ["kept"]


def test_prompts_of_one_person_hang_together() -> None:
    found = usable([asked("aa"), asked("ab"), asked("nobody", user=None)], "m", 10)
    assert [one.unit for one in found][:2] == ["u-a", "u-a"]
    assert found[2].unit == found[2].id
