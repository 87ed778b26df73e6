"""`bestow up`: check, start, say where everything is, keep it running, stop it all."""

import asyncio
import fcntl
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from gateway.access import cache
from gateway.config import Config, dump
from gateway.errors import BestowError, StartError
from gateway.launch import machine, preflight
from gateway.launch.parts import Plan, plan, run_file, scorer_run_file
from gateway.launch.probe import without_password
from gateway.launch.progress import Progress
from gateway.launch.stack import Stack

FIRST_QUESTION = "How do I keep a houseplant healthy?"


def up(config: Config) -> int:
    """Start what the configuration names and keep it until Ctrl-C. The exit code: 0 when it was asked to stop.

    Raises StartError with everything that is wrong, one line each.
    """
    facts = machine.look()
    todo = plan(config, facts, machine.redis_server())
    if found := preflight.problems(todo, config):
        raise StartError("\n".join(["Nothing was started:", *(f"- {text}" for text in found)]))
    with only_one(todo.data_dir):
        prepare(todo)
        progress = Progress(Console(highlight=False))
        for text in preflight.warnings(facts, todo.data_dir):
            progress.say(f"Warning: {text}")
        hint = "with this GPU" if facts.gpu else f"on {facts.cores} core{'s' * (facts.cores > 1)}"
        progress.say(f"Starting {len(todo.parts)} parts; logs in {todo.data_dir / 'logs'}")
        stack = Stack(todo.parts, todo.given, todo.data_dir / "logs", progress, hint)
        return asyncio.run(supervise(stack, progress, lambda: ready_message(todo)))


async def supervise(stack: Stack, progress: Progress, message: Callable[[], str]) -> int:
    """Run a stack until a signal or its failure; stop it in either case. A second signal ends everything at once."""
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            stack.kill()
        asked.set()

    def on_ready() -> None:
        progress.__exit__()
        print(f"\n{message()}\n", flush=True)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    failure: BaseException | None = None
    with progress:
        work = asyncio.create_task(stack.run(on_ready))
        stopper = asyncio.create_task(asked.wait())
        await asyncio.wait({work, stopper}, return_when=asyncio.FIRST_COMPLETED)
        for task in (work, stopper):
            task.cancel()
        await asyncio.wait({work, stopper})
        if not work.cancelled():
            failure = work.exception()
    if failure is not None:
        progress.say(
            f"{failure}" if isinstance(failure, BestowError) else f"An error of `bestow up` itself: {failure!r}"
        )
    progress.say(
        "stopping what is running" if failure else "stopping: requests that run may finish; Ctrl-C again ends them"
    )
    await stack.stop()
    progress.say("all stopped")
    if failure is not None and not isinstance(failure, BestowError):
        raise failure
    return 1 if failure else 0


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data directory: two stacks on one journal and one Redis file would destroy them."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / "up.lock").open("a+")
    except OSError as error:
        raise StartError(f"The data directory {data_dir} cannot be written: {error.strerror}. Set data_dir.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            who = file.read().strip() or "unknown"
            raise StartError(
                f"`bestow up` is running already in {data_dir} (process {who}). Stop it first, or choose another "
                f"folder with `--data-dir FOLDER`."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def prepare(todo: Plan) -> None:
    """Write the configuration as the parts read it, with every address filled in, and make Redis' folder."""
    (todo.data_dir / "redis").mkdir(exist_ok=True)
    note = "# Written by `bestow up` at each start; edit your own file instead.\n"
    _write_private(run_file(todo.data_dir), note + dump(todo.config))
    if todo.scorer_config is not None:
        _write_private(scorer_run_file(todo.data_dir), note + dump(todo.scorer_config))


def _write_private(path: Path, text: str) -> None:
    # An address may hold a password.
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")


def ready_message(todo: Plan) -> str:
    """Where everything is, who can call, and a line to paste."""
    base = todo.parts[-1].address
    model = next(iter(todo.config.models))
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "{FIRST_QUESTION}"}}]}}'
    command = ".venv/bin/bestow" if Path(".venv/bin/bestow").exists() else "bestow"
    known = cache.load(cache.cache_file(todo.data_dir))
    locked = known is not None and known.has_keys
    key = ' -H "authorization: Bearer $BESTOW_KEY"' if locked else ""
    who = "API keys are needed; put yours into BESTOW_KEY" if locked else "no API keys: only this machine can call"
    if todo.config.gateway.allow_anonymous:
        key, who = "", "anyone who reaches it can chat (gateway.allow_anonymous)"
    addresses = [
        ("API", f"{base}/v1   (model {', '.join(todo.config.models)}; any OpenAI client)"),
        ("Access", f"{who}   ({command} keys create --help)"),
        ("API documentation", f"{base}/docs"),
        ("Metrics", f"{base}/metrics"),
        ("Redis", without_password(todo.config.redis.url or "")),
        *((part.title, part.address) for part in todo.parts if part.name not in ("gateway", "redis")),
        *((one.title, one.address) for one in todo.given if one.title != "Redis"),
        ("Logs", str(todo.data_dir / "logs")),
    ]
    width = max(len(title) for title, _ in addresses)
    return "\n".join(
        [
            "Bestow is ready.",
            "",
            *(f"  {title:<{width}}  {address}" for title, address in addresses),
            "",
            "Ask it something:",
            "",
            f"  curl -s {base}/v1/chat/completions{key} -H 'content-type: application/json' \\",
            f"    -d {shlex.quote(body)}",
            "",
            "Thumb its answer up, with the id that came back (chatcmpl-...):",
            "",
            f"  curl -s {base}/v1/feedback{key} -H 'content-type: application/json' \\",
            '    -d \'{"id": "chatcmpl-...", "kind": "thumbs", "value": true}\'',
            "",
            f"Watch the log:   {command} log tail        Check everything:   {command} doctor",
            "Ctrl-C stops everything.",
        ]
    )
