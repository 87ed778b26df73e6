"""/admin/v1/adapters: LoRA adapters on all workers of a policy, or on none."""

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import openapi
from gateway.api.admin.operators import MAX_BODY_BYTES, made_by, operator
from gateway.api.http import json_response, read_body
from gateway.api.protocol import convert, parse_json
from gateway.release.preparing import must_not_serve
from gateway.release.routes import Releases
from gateway.workers.fleet import Fleet
from gateway.workers.fleet_state import Adapter

router = APIRouter()


class LoadAdapter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/adapters.

    name: what `models.X.adapter` names. path: where the workers can read it (absolute), or a Hugging Face id.
    """

    policy: str
    name: str
    path: str
    reason: str | None = None


@router.get("/admin/v1/adapters", summary="List the adapters, and which workers have each")
async def list_adapters(request: Request) -> Response:
    operator(request)
    fleet: Fleet = request.app.state.fleet
    data = [
        described(fleet, policy, name, adapter)
        for policy in fleet.pools
        for name, adapter in fleet.state.of(policy).adapters.items()
    ]
    return json_response({"object": "list", "data": data})


@router.post(
    "/admin/v1/adapters",
    status_code=201,
    summary="Load an adapter on every worker of a policy, or on none; this can take minutes",
    description="Where one worker cannot load it, those that did unload it; the error says which could not and why. "
    "A worker that is started anew, or added, gets it before it takes requests.",
    openapi_extra=openapi.body(
        LoadAdapter, {"policy": "demo-policy", "name": "support-2", "path": "/models/adapters/support-2"}
    ),
)
async def post_adapter(request: Request) -> Response:
    caller = operator(request)
    fleet: Fleet = request.app.state.fleet
    body = convert(parse_json(await read_body(request, MAX_BODY_BYTES)), LoadAdapter)
    adapter = await fleet.load_adapter(body.policy, body.name, body.path, made_by(caller, fleet.now(), body.reason))
    return json_response(described(fleet, body.policy, body.name, adapter), 201)


@router.delete(
    "/admin/v1/adapters/{policy}/{name}",
    summary="Unload an adapter from every worker; what runs on it ends first",
)
async def delete_adapter(request: Request, policy: str, name: str) -> Response:
    caller = operator(request)
    fleet: Fleet = request.app.state.fleet
    releases: Releases = request.app.state.releases
    must_not_serve(releases.state, f"the adapter {name}", served_as=name)
    await fleet.unload_adapter(policy, name, made_by(caller, fleet.now(), request.query_params.get("reason")))
    return json_response({"object": "adapter", "policy": policy, "name": name, "deleted": True})


def described(fleet: Fleet, policy: str, name: str, adapter: Adapter) -> dict[str, Any]:
    workers = fleet.pools[policy].workers
    return {
        "object": "adapter",
        "policy": policy,
        "name": name,
        "path": adapter.path,
        "created": int(adapter.note.at),
        "created_by": adapter.note.by,
        "reason": adapter.note.reason or None,
        "loaded_on": [worker.id for worker in workers if name in worker.models],
        "missing_on": [worker.id for worker in workers if name not in worker.models],
    }
