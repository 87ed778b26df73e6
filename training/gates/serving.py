"""What serves, as the configuration says: the public model, its profile, its reward model, its guards."""

from pathlib import Path

from gateway.config import Config, ModelConfig
from gateway.profile_settings import ProfileConfig
from training.errors import TrainingError


def public_model(settings: Config, named: str | None, policy: str | None = None) -> tuple[str, ModelConfig]:
    """The one that is named, else the only one, of that policy where one is named. Raises TrainingError."""
    if named is not None:
        if named not in settings.models:
            raise TrainingError(f"--model {named}: there is {', '.join(settings.models) or 'no model'}.")
        return named, settings.models[named]
    fitting = {name: one for name, one in settings.models.items() if policy in (None, one.policy)}
    if len(fitting) != 1:
        of = f" of the policy {policy}" if policy else ""
        raise TrainingError(f"There is {', '.join(fitting) or 'no model'}{of}: name one with --model.")
    return next(iter(fitting.items()))


def profile_of(settings: Config, model: ModelConfig, named: str | None = None) -> ProfileConfig:
    """As the configuration has it; operators may have changed it since, but seldom who scores."""
    return settings.profiles.get(named or model.profile, ProfileConfig())


def reward_model_of(settings: Config, public: str | None) -> Path | None:
    """The folder of the reward model that serves; None where there is none, or it is no folder here."""
    if not settings.models:
        return None
    _, model = public_model(settings, public)
    name = profile_of(settings, model).reward
    scorer = settings.scorers.get(name) if name else None
    if scorer is None or scorer.kind != "reward":
        return None
    folder = Path(scorer.model).expanduser()
    return folder if folder.is_dir() else None
