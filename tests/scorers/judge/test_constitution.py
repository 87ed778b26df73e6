"""Constitutions: what is read, and what is refused in plain sentences."""

from pathlib import Path

import pytest

from scorers.judge.constitution import Constitution, read_constitution
from scorers.judge.prompt import PAIR_QUESTION, RATING_QUESTION, digest, told
from scorers.model_path import LoadError

ORDER = "order: [platform, developer, user]\n"
GOOD = (
    ORDER
    + """\
principles:
  - {id: kind, authority: user, statement: It is kind.}
  - id: honest
    authority: platform
    statement: It is true.
    examples:
      - {good: Says it does not know., why: It is so.}
      - {bad: Invents a source., why: It is made up.}
"""
)


def read(folder: Path, text: str) -> Constitution:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return read_constitution(path)


def test_the_built_in_one_covers_every_authority() -> None:
    constitution = read_constitution(None)
    assert constitution.order == ["platform", "developer", "user"]
    assert {principle.authority for principle in constitution.principles} == set(constitution.order)
    assert len("\n".join(told(constitution, PAIR_QUESTION))) < 6000


def test_principles_are_told_in_order_of_authority_with_ids_and_examples(tmp_path: Path) -> None:
    opening, question = told(read(tmp_path, GOOD), PAIR_QUESTION)
    assert question == PAIR_QUESTION
    assert "order of their authority, platform, then developer, then user;" in opening
    assert opening.index("1. (platform; honest) It is true.") < opening.index("2. (user; kind) It is kind.")
    assert "Good: Says it does not know. Because: It is so." in opening
    assert "Bad: Invents a source. Because: It is made up." in opening


def test_another_order_is_told_in_that_order(tmp_path: Path) -> None:
    text = GOOD.replace("[platform, developer, user]", "[user, developer, platform]")
    opening, _ = told(read(tmp_path, text), PAIR_QUESTION)
    assert "user, then developer, then platform" in opening
    assert opening.index("kind") < opening.index("honest")


def test_a_change_of_words_changes_the_digest_and_a_change_of_layout_does_not(tmp_path: Path) -> None:
    before = digest(told(read(tmp_path, GOOD), PAIR_QUESTION))
    assert digest(told(read(tmp_path, "# mine\n" + GOOD), PAIR_QUESTION)) == before
    others = [
        digest(told(read(tmp_path, GOOD.replace("It is kind.", "It is very kind.")), PAIR_QUESTION)),
        digest(told(read(tmp_path, GOOD.replace("made up", "false")), PAIR_QUESTION)),
        digest(told(read(tmp_path, GOOD.replace("authority: user", "authority: developer")), PAIR_QUESTION)),
        digest(told(read(tmp_path, GOOD), RATING_QUESTION)),
    ]
    assert len({before, *others}) == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("id: honest", "id: kind"), "two principles have the id 'kind'"),
        (
            GOOD.replace("authority: user", "authority: king"),
            r"principles\[0\].authority: there is no authority 'king'; there is platform, developer, user",
        ),
        (GOOD.replace("[platform, developer, user]", "[platform, king]"), r"order\[1\]: there is no authority 'king'"),
        (
            GOOD.replace("[platform, developer, user]", "[platform, user]"),
            "order must name each of platform, developer",
        ),
        (GOOD.replace(", user]", ", user, user]"), "order must name each of"),
        (GOOD.replace("It is kind.", "' '"), r"principles\[0\].statement: .*at least 1 character"),
        (GOOD.replace("It is kind.", "x" * 2001), r"principles\[0\].statement: .*at most 2000 characters"),
        (GOOD.replace("good: Says", "better: Says"), r"principles\[1\].examples\[0\].better: there is no such key"),
        (GOOD.replace("good: Says it does not know., ", ""), r"examples\[0\]: an example has either good or bad"),
        (GOOD.replace(", why: It is so.", ""), r"examples\[0\].why: it is missing"),
        (GOOD.replace("id: kind, ", "id: a b, "), r"principles\[0\].id: "),
        (GOOD.replace("id: kind, ", ""), r"principles\[0\].id: it is missing"),
        (ORDER + "principles: []\n", "principles: .*at least 1 item"),
        (ORDER, "principles: it is missing"),
        (ORDER + "principles: none\n", "principles: "),
        ("", "must hold two keys, order and principles"),
        ("- a\n", "must hold two keys, order and principles"),
        ("order: [", r"is not valid YAML near line 1\."),
    ],
)
def test_what_is_wrong_is_said_with_the_file_and_the_field(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(LoadError, match=says) as caught:
        read(tmp_path, text)
    assert "mine.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"There is no constitution .*gone\.yaml"):
        read_constitution(tmp_path / "gone.yaml")
    with pytest.raises(LoadError, match="cannot be read"):
        read_constitution(tmp_path)
