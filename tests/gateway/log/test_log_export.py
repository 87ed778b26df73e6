"""What people said of two answers, as it is exported: in TRL's preference format."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from gateway.log.export import open_writer, preferences, row
from gateway.log.records import Comparison, Feedback, Interaction
from tests.gateway.log.log_samples import interaction, thumb

# A row that is written without an assessment of votes.
NOT_WEIGHED = {"weight": None, "quarantined": None}
COMPARED = interaction(comparison=Comparison([2, 1], "best", 0.25, 0.5), delivered=[1, 2])


def preference(candidate: int, over: int, value: int | str = 3, **changes: Any) -> Feedback:
    said: dict[str, Any] = {"kind": "preference", "value": value, "candidate": candidate, "over": over, **changes}
    return thumb(COMPARED.id, **said)


def answer(index: int) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": f"Answer {index}."}]


def test_a_pick_is_a_pair_that_goes_on_from_the_rows_prompt() -> None:
    found = row(COMPARED, [thumb(COMPARED.id), preference(2, 1, shown=[2, 1]), preference(0, 2, user="bob")])
    assert found is not None
    assert found["preferences"] == [
        {"chosen": answer(2), "rejected": answer(1), "strength": 3, "shown": [2, 1], **NOT_WEIGHED},
        {"chosen": answer(0), "rejected": answer(2), "strength": 3, "shown": [], **NOT_WEIGHED},
    ]
    assert found["comparison"] == {"shown": [2, 1], "against": "best", "share": 0.25, "propensity": 0.5}
    assert found["messages"][:-1] == COMPARED.messages
    assert [vote["kind"] for vote in found["votes"]] == ["thumbs", "preference", "preference"]


@pytest.mark.parametrize("vote", [preference(2, 1, "tie"), preference(2, 1, "both_bad"), preference(2, 9)])
def test_where_neither_is_better_or_one_is_unknown_there_is_no_pair(vote: Feedback) -> None:
    assert preferences(COMPARED, [vote]) == []


def test_where_a_candidate_was_lost_the_answer_is_the_delivered_one_all_the_same() -> None:
    whole = interaction()
    record = interaction(candidates=[whole.candidates[0], whole.candidates[2]])
    assert (record.chosen, [one.index for one in record.candidates]) == (1, [0, 2])
    found = row(record, [])
    assert found is not None
    assert found["messages"][-1:] == answer(2)


@pytest.mark.parametrize("record", [interaction(), COMPARED])
def test_in_both_formats_a_row_says_the_same(record: Interaction, tmp_path: Path) -> None:
    rows = [found for votes in ([], [preference(2, 1, shown=[2, 1])]) if (found := row(record, votes)) is not None]
    for name in ("x.jsonl", "x.parquet"):
        writer = open_writer(tmp_path / name)
        writer.write(rows)
        writer.close()
    told = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    kept = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert [one["comparison"] for one in told] == [one["comparison"] for one in kept]
    assert told[0]["preferences"] == kept[0]["preferences"] == []
    [pair], [flat] = told[1]["preferences"], kept[1]["preferences"]
    for side in ("chosen", "rejected"):
        assert [message["content"] for message in pair[side]] == [message["content"] for message in flat[side]]
    assert (pair["strength"], pair["shown"]) == (flat["strength"], flat["shown"]) == (3, [2, 1])
