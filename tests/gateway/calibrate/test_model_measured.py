"""What was measured is kept, and counts for as long as what is measured is the same."""

from pathlib import Path

import msgspec
import pytest

from gateway.calibrate.measured import Answer, Begun, Measurements, Sampled, Setup, Timed, prompt_print

SETUP = Setup("m", "policy@1", "reward@1", "safety@1", 1.0, 96, 16, {"": 0.5})


def measured(path: Path) -> Measurements:
    kept = Measurements(path, SETUP)
    kept.add(Sampled(kept.setup, "a", [Answer(3, 1.5, {"weapons": 0.1}, [], "hi", [1, 2, 3])], 1))
    kept.add(Begun(kept.setup, "a", [1, 2], [[0.5], [None]]))
    kept.add(Timed(kept.setup, "a", 4, 0, 12.5))
    return kept


def test_a_run_goes_on_with_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "m.measured.jsonl"
    before = measured(path)
    again = Measurements(path, SETUP)
    assert (again.sampled, again.begun, again.timed) == (before.sampled, before.begun, before.timed)
    assert list(again.begun) == [("a", (1, 2))] and list(again.timed) == [("a", 4, 0)]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "changed",
    [
        {"policy": "policy@2"},
        {"reward_model": "reward@2"},
        {"safety_model": None},
        {"temperature": 0.7},
        {"max_tokens": 97},
        {"answers": 8},
        {"thresholds": {"": 0.4}},
    ],
)
def test_what_was_measured_of_something_else_goes(tmp_path: Path, changed: dict[str, object]) -> None:
    path = tmp_path / "m.measured.jsonl"
    measured(path)
    other = Measurements(path, msgspec.structs.replace(SETUP, **changed))
    assert not other.sampled and not other.begun and not other.timed
    assert path.read_bytes() == b"" and path.stat().st_mode & 0o777 == 0o600


def test_a_line_that_was_cut_off_goes_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "m.measured.jsonl"
    before = measured(path)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type":"sampled","setup":"')
    again = Measurements(path, SETUP)
    assert again.sampled == before.sampled and path.read_bytes() == whole
    again.add(Sampled(again.setup, "b", []))
    assert set(Measurements(path, SETUP).sampled) == {"a", "b"}


def test_prompts_are_told_apart_by_all_they_say() -> None:
    prints = {
        prompt_print([{"role": "user", "content": "hi"}]),
        prompt_print([{"role": "user", "content": "ho"}]),
        prompt_print([{"role": "system", "content": "hi"}]),
        prompt_print([{"role": "user", "content": "hi"}] * 2),
    }
    assert len(prints) == 4
    assert prompt_print([{"role": "user", "content": "hi"}]) == prompt_print([{"content": "hi", "role": "user"}])
