"""Reward models that `bestow train reward` made, as versions in the registry.

What is served goes in: the member in the middle with its card and ensemble.json, which has every seed's figures. The
other seeds and the unmerged LoRA stay where they were made: nobody serves them, and they are several times as large.
"""

from pathlib import Path

from training.errors import TrainingError
from training.registry.layout import Version
from training.registry.refs import parse_label
from training.registry.registry import Registry

# ruff: noqa: PLC0415  # torch: seconds

_LEFT_OUT = ("seeds", "adapter")


def publish_reward_model(registry: Registry, folder: Path) -> Version:
    """Under its own number, or the next after all that the registry has. Raises TrainingError where it is not measured.

    Its own number is in `facts.made_as`: name@N, as its card has it.
    """
    from training.reward.versions import read_card

    card = read_card(folder)
    if card.report is None:
        raise TrainingError(f"{folder} was not measured yet: run its `bestow train reward` again.")
    base = parse_label(Path(card.base["model"]).name)
    version = Version(
        kind="reward_model",
        name=card.name,
        number=0,
        base=dict(card.base),
        parents=[f"reward_model:{base[0]}@{base[1]}"] if base else [],
        snapshot=card.snapshot["id"],
        scope=card.scope,
        method=str(card.settings.get("method", "")),
        settings=dict(card.settings),
        measures={
            "jobs": list(card.jobs),
            "split": card.split,
            "a": card.a,
            "b": card.b,
            "served_seed": card.served_seed,
            "seeds": list(card.seeds),
        },
        facts={"made_as": f"{card.name}@{card.version}"},
    )
    names = [path.name for path in folder.iterdir() if path.name not in _LEFT_OUT and not path.name.startswith(".")]
    return registry.publish(version, folder, above=card.version - 1, only=names)
