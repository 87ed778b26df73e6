"""`bestow train`: from the log to datasets, and from datasets to models whose quality is known.

Command modules import torch, TRL and pyarrow inside their functions, so that `--help` is quick.
"""

import typer

from training.cycle.cycle_command import cycle, turns
from training.cycle.schedule_command import schedule
from training.data.lineage_command import forget, lineage
from training.data.snapshot_command import snapshot
from training.defence.defend_command import defend
from training.estimates.command import estimate
from training.evaluation.commands import evaluate_app
from training.gates.commands import gate_app, veto_command
from training.judging.label_command import label
from training.policy.anchor_command import anchor_app
from training.policy.command import policy
from training.policy.sample_command import sample
from training.reward.command import reward
from training.reward.report_commands import card, reward_bench, reward_report

train_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""From the log to datasets, and from datasets to a reward model whose quality is known.

    \b
      bestow train snapshot --tenant acme            what people said, as datasets: immutable, named by its content
      bestow train defend --reference MODEL          which votes look like poisoning; an operator has the last word
      bestow train estimate default                  what people would say of the policy's own answers
      bestow train label SNAPSHOT --judge MODEL      a judge's preferences and revisions beside people's
      bestow train reward SNAPSHOT                   a reward model from it, with a card that says how good it is
      bestow train policy SNAPSHOT --method kto      a policy from it, or from a reward model: a version, not yet served
      bestow train card reward@3                     how good it is; reward-report and reward-bench measure any other
      bestow train evaluate MODEL --prompts FILE     one policy or profile against another
      bestow train gate policy policy:demo-policy@2  whether it may reach users: data, reward models, policies
      bestow train cycle                             one whole turn of the loop; schedule: whenever one is due
      bestow train lineage --user alice              which snapshots and models have seen a person
    """,
)


@train_app.callback()
def _group() -> None:
    """A group even while it has a single command."""


train_app.add_typer(anchor_app, name="anchor")
train_app.command("card")(card)
train_app.command("defend")(defend)
train_app.command("estimate")(estimate)
train_app.command("label")(label)
train_app.command("reward-bench")(reward_bench)
train_app.command("reward-report")(reward_report)
train_app.command("sample")(sample)
train_app.command("snapshot")(snapshot)
train_app.command("lineage")(lineage)
train_app.command("forget")(forget)
train_app.command("cycle")(cycle)
train_app.command("schedule")(schedule)
train_app.command("turns")(turns)
train_app.add_typer(evaluate_app, name="evaluate")
train_app.add_typer(gate_app, name="gate")
train_app.command("policy")(policy)
train_app.command("reward")(reward)
train_app.command("veto")(veto_command)
