"""`bestow doctor`: look at everything that a configuration names, and say how to mend what is wrong."""

import asyncio
from itertools import repeat
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gateway.config import Config, load
from gateway.errors import ConfigError, StartError
from gateway.launch import checks, machine, models, preflight
from gateway.launch.addresses import gateway_endpoint
from gateway.launch.demo import demo_here
from gateway.launch.findings import STYLES, Finding, as_json, ok, problem, warning, worst
from gateway.launch.parts import Plan, plan, run_file
from gateway.launch.ports import is_free
from gateway.upstreams import read_upstreams, unverified
from scorers.scorer_settings import calls_of
from scorers.settings import Upstream


def doctor(path: Path | None, *, json: bool) -> int:
    """Check and report. The exit code: 1 when there is a problem."""
    findings = asyncio.run(examine(path))
    if json:
        print(as_json(findings))
    else:
        show(findings, Console(highlight=False))
    return 1 if worst(findings) == "problem" else 0


async def examine(path: Path | None) -> list[Finding]:
    """All findings, for a configuration file or the demo."""
    facts = machine.look()
    findings = [checks.check_machine(facts), *checks.check_installation(facts)]
    try:
        config = load(path) if path else demo_here()
    except ConfigError as error:
        return [*findings, *(problem("configuration", line) for line in str(error).splitlines())]
    source = f"{path} is right" if path else "none given: the built-in demo's"
    findings += [ok("configuration", source), *checks.unexpected("configuration", preflight.host_problems(config))]
    findings.append(checks.check_data_dir(config.data_dir))
    findings += checks.check_models(models.named_models(config))
    try:
        todo = plan(config, facts, machine.redis_server())
    except StartError as error:
        return [*findings, problem("Redis", str(error))]
    except ConfigError as error:
        return [*findings, *checks.unexpected("configuration", str(error).splitlines())]
    mend = "Name the authority of its certificate with ca_file, and leave verify out."
    findings += [warning("configuration", f"{where}.verify is false", mend) for where in unverified(todo.config)]
    findings += [checks.check_port(need) for need in todo.needs]
    return findings + await ask_addresses(config, todo)


async def ask_addresses(config: Config, todo: Plan) -> list[Finding]:
    """Every address in the configuration; of those that `bestow up` would start, the ones that run."""
    full = todo.config
    upstreams = read_upstreams(full)
    running = {need.key for need in todo.needs if not is_free(need.host, need.port)}
    findings: list[Finding] = []
    if config.redis.url or "redis.port" in running:
        findings += await checks.check_redis(upstreams.redis)
    for name, workers in upstreams.workers.items():
        if config.policies[name].workers or f"policies.{name}.engine.port" in running:
            sections = (f"policies.{name}.workers.{index}" for index in range(len(workers)))
            findings += await asyncio.gather(*map(checks.check_worker, repeat(name), workers, sections))
    for names in same_server(full):
        wanted = {name: full.scorers[name].kind for name in names}
        if any(config.scorers[name].url for name in names) or "scorer_server.port" in running:
            findings += await checks.check_scorers(upstreams.scorers[names[0]], wanted)
    # A scorer server elsewhere may call from another network.
    ours = {name: scorer for name, scorer in config.scorers.items() if scorer.url is None}
    calls = [(name, key, called) for name, scorer in ours.items() for key, called in calls_of(scorer).items()]
    findings += await asyncio.gather(*(checks.check_called(*call) for call in calls))
    if "gateway.port" in running:
        findings.append(await checks.check_gateway(gateway_endpoint(full.gateway)))
    elif run_file(todo.data_dir).exists():
        findings.append(ok("gateway", "is not running; start it with `bestow up`"))
    return findings


def same_server(config: Config) -> list[list[str]]:
    """The scorers' names, those together that are asked for at one address with one key and one TLS."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, scorer in config.scorers.items():
        if scorer.url:
            groups.setdefault((scorer.url, *(getattr(scorer, key) for key in Upstream.model_fields)), []).append(name)
    return list(groups.values())


def show(findings: list[Finding], console: Console) -> None:
    """One line a finding, its mending below it."""
    for one in findings:
        console.print(Text.assemble((f"{one.level:<8}", STYLES[one.level]), f" {one.what}: {one.text}"), soft_wrap=True)
        if one.mend:
            console.print(Text(f"{'':<8}   -> {one.mend}"), soft_wrap=True)
    problems = sum(one.level == "problem" for one in findings)
    warnings = sum(one.level == "warning" for one in findings)
    verdict = "Nothing is wrong." if not problems + warnings else f"{problems} problems, {warnings} warnings."
    console.print(Text(verdict))
