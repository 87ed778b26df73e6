"""LoRA adapters on the workers of a policy: on all of them, or on none.

    load_everywhere     on every worker side by side; where one fails, those that took it give it back
    unload_everywhere   from every worker; what could not be reached is mended later (`fleet.py`)
    ensure              a worker that started anew gets what it lacks before it takes traffic

vLLM's unloading takes a name out of what can be asked for; what runs on the adapter goes on to its end.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence

from gateway.errors import ApiError, BadRequest, Conflict, Unavailable, WorkerError
from gateway.workers.client import NotServed, ServedModel, WorkerClient, WorkerFailed, WorkerUnreachable, reason_of
from gateway.workers.worker import Worker

logger = logging.getLogger(__name__)

# In vLLM's words.
_LOADED_ALREADY = "already been loaded"


class AdapterNotLoaded(WorkerError):
    """At least one worker did not take it; no worker has it now."""

    code = "adapter_not_loaded"


async def load_everywhere(
    workers: Sequence[Worker], name: str, path: str, commit: Callable[[], Awaitable[None]]
) -> None:
    """Load it on all workers that are up, draining ones too, and then `commit`; all of that or nothing.

    Raises AdapterNotLoaded, Conflict where workers take no adapters at all, Unavailable where none is up, and what
    `commit` raises.
    """
    able = [worker for worker in workers if worker.up and not worker.leaving]
    if not able:
        raise Unavailable(
            "no worker of this policy is up, so that none can say whether the adapter can be loaded", retry_after=5.0
        )
    took: list[Worker] = []
    unable: list[Worker] = []

    async def load(worker: Worker) -> str | None:
        """Why not; None: it has it."""
        try:
            if await load_on(worker.client, name, path):
                took.append(worker)
        except ApiError as error:
            logger.warning(
                "worker %s (%s) does not load the adapter %s: %s", worker.id, worker.name, name, reason_of(error)
            )
            if isinstance(error, NotServed):
                unable.append(worker)
            return f"worker {worker.id}: {_said(error)}"
        return None

    try:
        problems = [said for said in await asyncio.gather(*map(load, able)) if said]
        if unable:
            raise Conflict(
                f"the adapter {name} was loaded on no worker: {len(unable)} of {len(able)} take none while they run "
                "(start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1)",
                code="adapters_unsupported",
            )
        if problems:
            raise AdapterNotLoaded(
                f"the adapter {name} was loaded on no worker, since {len(problems)} of {len(able)} could not load it "
                f"from {path}. {'; '.join(problems)}"
            )
        await commit()
    except BaseException:
        await unload_everywhere(took, name)
        raise


async def unload_everywhere(workers: Sequence[Worker], name: str) -> None:
    """Unload it from these workers side by side; a failure is logged. Raises nothing."""

    async def unload(worker: Worker) -> None:
        try:
            await unload_from(worker.client, name)
        except ApiError as error:
            logger.warning(
                "worker %s (%s) does not unload the adapter %s, and is asked again: %s",
                worker.id,
                worker.name,
                name,
                reason_of(error),
            )

    await asyncio.gather(*map(unload, workers))


async def ensure(client: WorkerClient, served: Mapping[str, ServedModel], desired: Mapping[str, str]) -> bool:
    """Load what a worker lacks of the desired adapters (name -> path), and what it has from elsewhere anew.

    served: what it says it has. Returns whether anything was changed. Raises ApiError where one cannot be loaded.
    """
    missing = [name for name, path in desired.items() if name not in served or not _is_from(served[name], path)]
    for name in missing:
        await load_on(client, name, desired[name])
        logger.info("the adapter %s was loaded on %s", name, client.url)
    return bool(missing)


async def load_on(client: WorkerClient, name: str, path: str) -> bool:
    """Load it on one worker; one of that name from elsewhere is replaced. False: it was there. Raises ApiError."""
    try:
        await client.load_adapter(name, path)
    except BadRequest as error:
        if _LOADED_ALREADY not in error.message:
            raise
    else:
        return True
    present = {model.id: model for model in await client.served_models()}.get(name)
    if present is not None and _is_from(present, path):
        return False
    if present is not None:
        await unload_from(client, name)
    await client.load_adapter(name, path)
    return True


async def unload_from(client: WorkerClient, name: str) -> None:
    """Unload it from one worker, where it has it. Raises ApiError."""
    if name in {model.id for model in await client.served_models()}:
        await client.unload_adapter(name)


def _is_from(model: ServedModel, path: str) -> bool:
    return model.root in (None, path)


def _said(error: ApiError) -> str:
    """Why, without any address."""
    if isinstance(error, NotServed):
        return "it takes no adapters while it runs"
    if isinstance(error, WorkerUnreachable):
        return "it does not answer"
    if isinstance(error, WorkerFailed) and error.said:
        return error.said
    return error.message
