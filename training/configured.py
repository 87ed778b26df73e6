"""The configuration that the training commands go by, and the policy in it."""

from pathlib import Path

from gateway.config import Config, load
from gateway.launch.demo import DEMO_MODELS, PROJECT
from gateway.log.source import DEFAULT_CONFIGS
from training.errors import TrainingError


def configured(path: Path | None) -> Config | None:
    """What was named, else what lies here; None without any."""
    found = path or next((one for one in DEFAULT_CONFIGS if one.exists()), None)
    return load(found) if found else None


def policy_model(settings: Config | None) -> str:
    """The only policy's model; without a configuration, the demo's. Raises TrainingError where there are several."""
    if settings is None or not settings.policies:
        return str(PROJECT / DEMO_MODELS / "policy")
    if len(settings.policies) > 1:
        names = ", ".join(settings.policies)
        raise TrainingError(f"There are several policies ({names}): name the model of one with --base.")
    [policy] = settings.policies.values()
    return policy.model
