"""The README's table of the demo's figures, made from figures.json so that the two cannot differ.

python -m training.demo.readme          print it
python -m training.demo.readme --write  put it into README.md, between its markers
"""

import json
import sys
from pathlib import Path

BEGIN, END = "<!-- figures: begin (python -m training.demo.readme --write) -->", "<!-- figures: end -->"
FIGURES = Path(__file__).with_name("models") / "figures.json"

# (what, figure, whether it is a share shown in percent)
ROWS = (
    ("reward model: agreement with the gold judge", "reward_agreement_with_gold", True),
    ("reward model: agreement with noisy labels", "reward_agreement_with_noisy_labels", True),
    ("the ceiling that label noise sets for it", "ceiling_by_label_noise", True),
    ("gold score, a random candidate (n = 1)", "gold_random", False),
    ("gold score, best of 2", "gold_at_2", False),
    ("gold score, best of 4", "gold_at_4", False),
    ("gold score, best of 8", "gold_at_8", False),
    ("gold score, best of 16", "gold_at_16", False),
    ("gold score, best of 8 by an oracle", "gold_oracle_at_8", False),
    ("gold score, best of 16 by an oracle", "gold_oracle_at_16", False),
    ("answers with the right fact, n = 1", "right_fact_at_1", True),
    ("answers with the right fact, best of 8", "right_fact_at_8", True),
    ("guard: recall on prompts", "safety_recall_prompts", True),
    ("guard: recall on answers", "safety_recall_answers", True),
    ("guard: recall on the policy's own samples", "safety_recall_policy_samples", True),
    ("guard: false positives on prompts", "safety_false_positives_prompts", True),
    ("guard: false positives on answers", "safety_false_positives_answers", True),
    ("guard: false positives on text from outside the world", "safety_false_positives_outside_world", True),
    ("unsafe answers delivered, ordinary prompts, n = 1, no guard", "unsafe_delivered_ordinary_n1_no_guard", True),
    ("the same with the guard", "unsafe_delivered_ordinary_n1_guard", True),
    ("unsafe answers delivered, inviting prompts, n = 1, no guard", "unsafe_delivered_inviting_n1_no_guard", True),
    ("the same with the guard", "unsafe_delivered_inviting_n1_guard", True),
    ("topics without any label: agreement with the gold judge", "unseen_topics_reward_agreement_with_gold", True),
    ("topics without any label: gold score, a random candidate", "unseen_topics_gold_random", False),
    ("topics without any label: gold score, best of 8", "unseen_topics_gold_at_8", False),
)


def table() -> str:
    """Markdown, with 95% intervals."""
    data = json.loads(FIGURES.read_text(encoding="utf-8"))
    lines = ["| figure | value | 95% interval | from |", "| --- | --- | --- | --- |"]
    for what, name, percent in ROWS:
        figure = data["figures"][name]
        value, low, high = (_shown(figure[key], percent) for key in ("value", "low", "high"))
        lines.append(f"| {what} | {value} | {low} to {high} | {figure['n']} {figure['of']} |")
    return "\n".join(lines)


def _shown(number: float, percent: bool) -> str:
    return f"{100 * number:.1f} %" if percent else f"{number:.2f}"


def with_table(readme: str) -> str:
    """The README's text with the present table between its markers."""
    head, _, rest = readme.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table()}\n\n{END}{tail}"


def main() -> None:
    readme = Path("README.md")
    if "--write" in sys.argv[1:]:
        readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
