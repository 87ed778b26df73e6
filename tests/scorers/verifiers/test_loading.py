"""Options of our checks, told at load where they are wrong; what verifiers say of themselves; the list of checks."""

import subprocess
import sys
from typing import Any

import pytest

from scorers.model_path import LoadError
from scorers.scorer_settings import KINDS
from scorers.verifiers.loading import describe_checks
from tests.scorers.verifiers.checking import verifier

GOOD: dict[str, dict[str, Any]] = {
    "exact": {},
    "numeric": {},
    "regex": {"must_match": ["a"]},
    "json_schema": {},
    "tool_call": {},
    "length": {"max": 5},
}


@pytest.mark.parametrize("check", GOOD)
def test_a_verifier_ranks_whole_answers_and_counts_no_tokens(check: str) -> None:
    info = verifier(check, **GOOD[check]).info
    assert (info.id, info.kind, info.gives, info.version) == ("it", "verifier", "value", "it@1")
    assert (info.prompt_only, info.partial, info.max_tokens, info.categories) == (False, False, 0, [])
    assert info.kind in KINDS


@pytest.mark.parametrize("check", GOOD)
def test_an_unknown_option_is_named_with_those_there_are(check: str) -> None:
    with pytest.raises(LoadError) as caught:
        verifier(check, **GOOD[check], lenient=True)
    said = str(caught.value)
    assert said.startswith(f"scorers.it.options.lenient: {check} has no such option; it has ")
    described = next(each for each in describe_checks() if each.name == check)
    assert all(option.name in said for option in described.options)


@pytest.mark.parametrize(
    ("check", "options", "says"),
    [
        ("exact", {"ignore_case": "perhaps"}, "scorers.it.options.ignore_case: Input should be a valid boolean"),
        ("exact", {"extract": "regex"}, "scorers.it.options: extract: regex needs pattern."),
        ("exact", {"extract": "regex", "pattern": "("}, "scorers.it.options.pattern: '(' is no regular expression"),
        ("numeric", {"absolute": -1}, "scorers.it.options.absolute: Input should be greater than or equal to 0."),
        ("numeric", {"relative": float("nan")}, "scorers.it.options.relative: Input should be a finite number."),
        ("regex", {}, "scorers.it.options: there is no pattern"),
        ("regex", {"must_match": ["(?=a)"]}, "scorers.it.options.must_match: '(?=a)' is no regular expression of RE2"),
        ("json_schema", {"schema": {"type": "thing"}}, "scorers.it.options.schema: no JSON schema that can be checked"),
        ("json_schema", {"own_schema": {}}, "scorers.it.options.own_schema: json_schema has no such option"),
        ("tool_call", {"required": "clock"}, "scorers.it.options.required: Input should be a valid list."),
        ("length", {}, "scorers.it.options: there is no bound"),
        ("length", {"min": 3, "max": 2}, "scorers.it.options: max is less than min"),
        ("length", {"unit": "tokens", "max": 2}, "scorers.it.options.unit: Input should be 'words' or 'characters'."),
    ],
)
def test_a_wrong_option_is_a_sentence_that_names_it(check: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(LoadError) as caught:
        verifier(check, **options)
    assert says in str(caught.value)


def test_each_check_and_each_option_is_described() -> None:
    described = {check.name: check for check in describe_checks()}
    assert GOOD.keys() <= described.keys()
    for name in GOOD:
        check = described[name]
        assert check.about.startswith("1 where") and check.options
        assert all(option.about and option.type and option.default is not None for option in check.options)
    schema = described["json_schema"].options[0]
    assert (schema.name, schema.type, schema.default) == ("schema", "keys and values or empty", "empty")


def test_the_list_of_checks_loads_no_model_library() -> None:
    code = (
        "import sys; from scorers.verifiers.loading import describe_checks; describe_checks(); "
        "print([name for name in ('torch', 'transformers', 're2', 'jsonschema_rs') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
