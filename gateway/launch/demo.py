"""The configurations that need no file: the demo, and any Hugging Face models named on the command line."""

import re
from pathlib import Path

from gateway.config import Config, EngineConfig, ModelConfig, PolicyConfig
from gateway.errors import ConfigError
from gateway.profile_settings import ProfileConfig
from scorers.scorer_settings import RewardConfig, SafetyConfig, ScorerConfig

PROJECT = Path(__file__).resolve().parents[2]
DEMO_MODELS = Path("training/demo/models")


def demo_config(root: Path = Path()) -> Config:
    """The built-in demo: one small policy, a reward model and a safety classifier from `make demo-models`."""
    models = root / DEMO_MODELS
    return Config(
        policies={
            "demo-policy": PolicyConfig(model=str(models / "policy"), engine=EngineConfig(tool_call_parser="hermes"))
        },
        scorers={
            "reward": RewardConfig(kind="reward", model=str(models / "reward")),
            "safety": SafetyConfig(kind="safety", model=str(models / "safety")),
        },
        # The demo policy writes short answers, and it is small: hot enough that its candidates differ.
        profiles={"default": ProfileConfig(temperature=1.0, max_tokens=96, max_tokens_limit=256)},
        models={"bestow-demo": ModelConfig(policy="demo-policy")},
    )


def demo_here() -> Config:
    """The demo, from the working directory where it is the project's, else from where Bestow is installed."""
    return demo_config(Path() if DEMO_MODELS.parent.is_dir() else PROJECT)


def models_config(policy: str, reward: str | None, safety: str | None, name: str | None = None) -> Config:
    """Serve these models: a best-of-n of the policy by the reward model, guarded by the safety classifier.

    None leaves that scorer out: without a reward model the first safe answer wins, without a safety classifier nothing
    is guarded. Raises ConfigError when `name` cannot be a model's public name.
    """
    public = name or public_name(policy)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", public):
        raise ConfigError(f"{public!r} cannot be a model's name: letters, digits, dots, dashes, at most 64 of them.")
    scorers: dict[str, ScorerConfig] = {}
    if reward is not None:
        scorers["reward"] = RewardConfig(kind="reward", model=reward)
    if safety is not None:
        scorers["safety"] = SafetyConfig(kind="safety", model=safety)
    profile = ProfileConfig(reward="reward" if reward else None, safety="safety" if safety else None)
    return Config(
        policies={public: PolicyConfig(model=policy)},
        scorers=scorers,
        profiles={"default": profile},
        models={public: ModelConfig(policy=public)},
    )


def public_name(model: str) -> str:
    """A valid name from the last part of a Hugging Face id or path."""
    last = model.rstrip("/").rpartition("/")[2]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", last).lstrip("._-")[:64] or "model"
