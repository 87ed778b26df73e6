"""A version on the live workers for as long as its gate asks it, without any user getting it.

It is loaded as a LoRA adapter under its own name on every worker of its policy (`POST /admin/v1/adapters`) and asked
for by that name with an admin's key. It is unloaded at the end, however that comes, unless it was there before: then
somebody else needs it, such as a canary. Whole weights are not loaded: a worker that has them must be there.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

from gateway.errors import StartError
from gateway.workers.admin_client import AdminClient
from training.errors import TrainingError
from training.registry.layout import Version
from training.registry.registry import Registry

_ADAPTERS = "/admin/v1/adapters"
_REASON = "its gate asks it"


@asynccontextmanager
async def served(version: Version, registry: Registry, admin: AdminClient) -> AsyncIterator[str]:
    """The name to ask for. Raises TrainingError where it cannot be loaded."""
    name = version.served_as
    if not version.adapter or await asyncio.to_thread(_is_there, admin, version.name, name):
        yield name
        return
    folder = await asyncio.to_thread(registry.local, version.ref)
    body = {"policy": version.name, "name": name, "path": str(folder), "reason": _REASON}
    await _call(admin, "POST", _ADAPTERS, body)
    try:
        yield name
    finally:
        path = f"{_ADAPTERS}/{quote(version.name, safe='')}/{quote(name, safe='')}"
        await asyncio.shield(_call(admin, "DELETE", f"{path}?reason={quote(_REASON)}", None))


def _is_there(admin: AdminClient, policy: str, name: str) -> bool:
    try:
        found = admin.call("GET", _ADAPTERS)["data"]
    except StartError as error:
        raise TrainingError(str(error)) from None
    return any((one["policy"], one["name"]) == (policy, name) for one in found)


async def _call(admin: AdminClient, method: str, path: str, body: dict[str, str] | None) -> None:
    try:
        await asyncio.to_thread(admin.call, method, path, body)
    except StartError as error:
        raise TrainingError(f"The challenger cannot be tried on the workers: {error}") from None
