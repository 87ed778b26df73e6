"""Whether a bundle can be served at all: asked before it becomes a challenger. Pure."""

import re
from collections.abc import Container

from gateway.errors import BadRequest
from gateway.profile_settings import ProfileConfig
from gateway.release.state import Bundle
from gateway.release.voiding import why_not
from gateway.workers.fleet_state import adapter_name, adapter_path
from scorers.errors import WrongSetting
from scorers.live_settings import parse_scorer

_LABEL = re.compile(r"(?P<name>.+)@(?P<number>[1-9][0-9]*)")


def check_bundle(
    bundle: Bundle, policy: str, own_version: int, profile: ProfileConfig, known: Container[str], seeds: Container[str]
) -> None:
    """policy: the model's. own_version: of its own weights. known: scorers that can be asked; seeds: the file's.

    Raises BadRequest naming the field.
    """
    _check_weights(bundle, policy, own_version)
    _check_reward(bundle, profile, known, seeds)
    if wrong := why_not(profile, bundle):
        field = wrong.partition(":")[0]
        raise BadRequest(wrong, param=f"bundle.{field}" if field.startswith("settings") else "bundle.settings")


def _check_weights(bundle: Bundle, policy: str, own_version: int) -> None:
    if bundle.release < 0:
        raise _wrong("release", "it is a number of the registry, or 0")
    if not bundle.policy:
        if bundle.served_as or bundle.path:
            raise _wrong("policy", "weights need their version, such as demo-policy@2")
        return
    match = _LABEL.fullmatch(bundle.policy)
    if match is None or match["name"] != policy:
        raise _wrong("policy", f"{bundle.policy!r} is no version of {policy}, such as {policy}@{own_version + 1}")
    own = int(match["number"]) == own_version
    name = f"{policy}-v{match['number']}"
    if own and not bundle.served_as and not bundle.path:
        return
    if own:
        raise _wrong("policy", f"{bundle.policy} are the policy's own weights, which need no adapter and no alias")
    if bundle.served_as != name:
        raise _wrong("served_as", f"{bundle.policy} is served as {name}, so that receipts tell the truth")
    adapter_name(name, policy)
    if bundle.path is not None:
        adapter_path(bundle.path)


def _check_reward(bundle: Bundle, profile: ProfileConfig, known: Container[str], seeds: Container[str]) -> None:
    if bundle.reward is None:
        if bundle.scorer:
            raise _wrong("reward", "it names the scorer whose settings `scorer` has")
        return
    if profile.reward is None:
        raise _wrong("reward", "the model's profile has no reward model, so that another would decide nothing")
    if bundle.reward in seeds:
        if bundle.scorer:
            raise _wrong("scorer", f"the scorer {bundle.reward} is in the configuration file: name it alone")
        return
    if not bundle.scorer and bundle.reward not in known:
        raise _wrong("scorer", f"there is no scorer {bundle.reward!r} yet, so its settings are needed")
    if bundle.scorer:
        try:
            config = parse_scorer(bundle.reward, bundle.scorer)
        except WrongSetting as error:
            raise BadRequest(str(error), param=f"bundle.scorer.{error.param}") from None
        if config.gives != "value":
            raise _wrong("scorer.kind", f"a {config.kind} scorer ranks no answers")


def _wrong(field: str, what: str) -> BadRequest:
    return BadRequest(f"bundle.{field}: {what}", param=f"bundle.{field}")
