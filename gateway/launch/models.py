"""Whether the models that a configuration names can be there."""

import re
from pathlib import Path

from gateway.config import Config
from gateway.launch.demo import DEMO_MODELS
from scorers.scorer_settings import weights_of

HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?$")


def local_folder(model: str) -> Path | None:
    """The folder, when the model is one on this machine."""
    path = Path(model).expanduser()
    return path.absolute() if path.is_dir() else None


def looks_like_path(model: str) -> bool:
    """A Hugging Face id has at most one slash and starts with a letter or digit."""
    return not HUB_ID.match(model)


def named_models(config: Config) -> dict[str, str]:
    """Key of the configuration -> model, for those that run on this machine."""
    policies = {f"policies.{name}.model": one.model for name, one in config.policies.items() if not one.workers}
    scorers = {
        f"scorers.{name}.model": model
        for name, one in config.scorers.items()
        if one.url is None and (model := weights_of(one))
    }
    return policies | scorers


def problem_of(key: str, model: str) -> str | None:
    """What is wrong with a model's name, in one sentence with its mending, or None. The hub is not asked."""
    folder = local_folder(model)
    if folder is not None:
        if (folder / "config.json").is_file():
            return None
        return f"{key}: the folder {model} holds no config.json, so it is no model in Hugging Face's layout."
    if not looks_like_path(model):
        return None
    if str(DEMO_MODELS) in model:
        return f"{key}: the demo model {model} is not there. Make it with `make demo-models`."
    return f"{key}: there is no folder {model}, and it cannot be a Hugging Face id (those look like Qwen/Qwen3-0.6B)."
