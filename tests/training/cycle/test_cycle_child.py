"""A stage's command as a process of its own."""

from pathlib import Path

from training.cycle.child import run_bestow


def test_what_a_command_prints_as_json_is_taken(tmp_path: Path) -> None:
    config = tmp_path / "bestow.yaml"
    config.write_text(f"data_dir: {tmp_path}\n", encoding="utf-8")
    answer = run_bestow(["release", "list", "--json", "--config", str(config)], tmp_path / "list.log")
    assert (answer.code, answer.said is not None) == (0, True)


def test_why_it_failed_are_its_last_words_and_they_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "stage.log"
    answer = run_bestow(["train", "reward", "nothing", "--json", "--config", "missing.yaml"], log)
    assert (answer.code, answer.said) == (1, None)
    assert "missing.yaml" in answer.words
    assert answer.words in log.read_text(encoding="utf-8")
