"""What the command line of `bestow up` asks for, made into a configuration."""

from dataclasses import dataclass
from pathlib import Path

from gateway.config import Config, load, parse
from gateway.errors import ConfigError
from gateway.launch.demo import demo_here, models_config


@dataclass(frozen=True)
class Choices:
    """The options of `bestow up`, as given."""

    config: Path | None = None
    policy: str | None = None
    reward: str | None = None
    safety: str | None = None
    no_reward: bool = False
    no_safety: bool = False
    name: str | None = None
    n: int | None = None
    host: str | None = None
    port: int | None = None
    data_dir: Path | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None


def chosen(choices: Choices) -> Config:
    """The configuration that the options ask for. Raises ConfigError with what is missing or does not fit."""
    return overridden(base_config(choices), choices)


def base_config(choices: Choices) -> Config:
    """From a file, from named models, or the demo."""
    about_models = (
        choices.reward,
        choices.safety,
        choices.name,
        choices.no_reward or None,
        choices.no_safety or None,
        choices.tool_call_parser,
        choices.reasoning_parser,
    )
    if choices.policy is None:
        if any(one is not None for one in about_models):
            raise ConfigError(
                "--reward, --safety, --no-reward, --no-safety, --name, --tool-call-parser and --reasoning-parser go "
                "with --policy MODEL."
            )
        return load(choices.config) if choices.config else demo_here()
    if choices.config is not None:
        raise ConfigError("--config and --policy exclude each other: name the models in the file.")
    for option, model, without, what in (
        ("reward", choices.reward, choices.no_reward, "to let the first safe answer win"),
        ("safety", choices.safety, choices.no_safety, "to serve without a safety check"),
    ):
        if model is None and not without:
            raise ConfigError(f"--policy needs --{option} HF_ID_OR_FOLDER too, or --no-{option} {what}.")
        if model is not None and without:
            raise ConfigError(f"--{option} and --no-{option} exclude each other.")
    return models_config(choices.policy, choices.reward, choices.safety, choices.name)


def overridden(config: Config, choices: Choices) -> Config:
    """The options that change single keys, checked as the file would be."""
    data = config.model_dump(mode="json", exclude_unset=True)
    gateway = data.setdefault("gateway", {})
    if choices.host is not None:
        gateway["host"] = choices.host
    if choices.port is not None:
        gateway["port"] = choices.port
    if choices.data_dir is not None:
        data["data_dir"] = str(choices.data_dir)
    if choices.n is not None:
        for name, profile in data.get("profiles", {}).items():
            profile |= {"n": choices.n, "max_n": max(choices.n, config.profiles[name].max_n)}
    parsers = {"tool_call_parser": choices.tool_call_parser, "reasoning_parser": choices.reasoning_parser}
    for policy in data.get("policies", {}).values():
        policy.setdefault("engine", {}).update({key: name for key, name in parsers.items() if name is not None})
    return parse(data, source="The command line")
