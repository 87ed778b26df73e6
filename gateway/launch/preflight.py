"""What must be right before anything is started, all of it said at once."""

from pathlib import Path

from gateway.access.start import keys_on_disk
from gateway.config import Config
from gateway.launch import models, ports
from gateway.launch.machine import Machine, free_disk_gib
from gateway.launch.parts import Plan
from scorers.local import is_loopback

LITTLE_MEMORY_GIB = 4.0
LITTLE_DISK_GIB = 2.0


def problems(plan: Plan, config: Config) -> list[str]:
    """One plain sentence for each reason why this cannot be started; empty when it can."""
    found = [text for key, model in models.named_models(config).items() if (text := models.problem_of(key, model))]
    found += host_problems(config)
    if not config.models:
        found.append("models: the configuration names no model, so applications could ask for nothing.")
    return found + ports.conflicts(plan.needs)


def host_problems(config: Config) -> list[str]:
    """Other machines are served without keys only where the configuration says so."""
    host = config.gateway.host
    # A Redis that runs elsewhere may have keys: the gateway asks it before it listens.
    if is_loopback(host) or config.gateway.allow_anonymous or config.redis.url or keys_on_disk(config):
        return []
    return [
        f"gateway.host: {host} would serve other machines, and there are no API keys. Start on 127.0.0.1, make one "
        "with `bestow keys create --name NAME --scope admin`, and start again; or set gateway.allow_anonymous: true in "
        "the configuration file if something in front checks who calls."
    ]


def warnings(machine: Machine, data_dir: Path) -> list[str]:
    """What may make it fail later."""
    found = []
    if machine.memory_gib < LITTLE_MEMORY_GIB:
        found.append(f"Only {machine.memory_gib:.1f} GiB of memory are free; the demo needs about 4.")
    if (disk := free_disk_gib(data_dir)) < LITTLE_DISK_GIB:
        found.append(f"Only {disk:.1f} GiB are free on the disk of {data_dir}; the log and Redis grow there.")
    return found
