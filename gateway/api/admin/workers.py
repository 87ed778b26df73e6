"""/admin/v1/workers: the workers as this gateway sees them, and changes of them that every gateway follows."""

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import openapi
from gateway.api.admin.operators import MAX_BODY_BYTES, Reason, described_note, made_by, operator, read_reason
from gateway.api.http import json_response, read_body
from gateway.api.protocol import convert, parse_json
from gateway.workers.fleet import Fleet
from gateway.workers.worker import Worker

router = APIRouter()


class AddWorker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of POST /admin/v1/workers.

    url: base address of a vLLM server that serves the policy, without /v1. It is spoken to with the key and the TLS
    settings of the policy's first worker in the configuration. reason: why, for whoever reads the list later.
    """

    policy: str
    url: str
    reason: str | None = None


_REASON = openapi.body(Reason, {"reason": "new driver"})
_REASON["requestBody"]["required"] = False


@router.get("/admin/v1/workers", summary="List the workers as this gateway sees them, and those that were removed")
async def list_workers(request: Request) -> Response:
    operator(request)
    fleet: Fleet = request.app.state.fleet
    data = [described(fleet, policy, worker) for policy, pool in fleet.pools.items() for worker in pool.workers]
    removed = [
        {"policy": policy, "url": url, "removed": described_note(made)}
        for policy in fleet.pools
        for url, made in fleet.state.of(policy).removed.items()
    ]
    return json_response({"object": "list", "data": data, "removed": removed})


@router.post(
    "/admin/v1/workers",
    status_code=201,
    summary="Add a worker to a policy, or bring back one that was removed",
    description="It takes requests once it answers and has the policy's adapters. It is spoken to with the key and the "
    "TLS settings of the policy's first worker in the configuration.",
    openapi_extra=openapi.body(AddWorker, {"policy": "demo-policy", "url": "http://10.0.0.7:8000"}),
)
async def post_worker(request: Request) -> Response:
    caller = operator(request)
    fleet: Fleet = request.app.state.fleet
    body = convert(parse_json(await read_body(request, MAX_BODY_BYTES)), AddWorker)
    worker = await fleet.add_worker(body.policy, body.url, made_by(caller, fleet.now(), body.reason))
    return json_response(described(fleet, body.policy, worker), 201)


@router.post(
    "/admin/v1/workers/{worker_id}/drain",
    summary="Drain a worker: it finishes what it has and gets nothing new, on every gateway within about a second",
    openapi_extra=_REASON,
)
async def drain_worker(request: Request, worker_id: str) -> Response:
    return await _drain(request, worker_id, True)


@router.post(
    "/admin/v1/workers/{worker_id}/undrain", summary="Let a drained worker take requests again", openapi_extra=_REASON
)
async def undrain_worker(request: Request, worker_id: str) -> Response:
    return await _drain(request, worker_id, False)


@router.delete(
    "/admin/v1/workers/{worker_id}",
    summary="Remove a worker: it finishes what it has and goes",
    description="One that the configuration or DNS names stays away until it is added again.",
)
async def remove_worker(request: Request, worker_id: str) -> Response:
    caller = operator(request)
    fleet: Fleet = request.app.state.fleet
    reason = request.query_params.get("reason")
    policy, worker = (await fleet.remove(worker_id, made_by(caller, fleet.now(), reason)))[0]
    return json_response({**described(fleet, policy, worker), "deleted": True})


async def _drain(request: Request, worker_id: str, on: bool) -> Response:
    caller = operator(request)
    fleet: Fleet = request.app.state.fleet
    policy, worker = (await fleet.drain(worker_id, on, made_by(caller, fleet.now(), await read_reason(request))))[0]
    return json_response(described(fleet, policy, worker))


def described(fleet: Fleet, policy: str, worker: Worker) -> dict[str, Any]:
    """A worker for operators; clients are never told an address."""
    changes = fleet.state.of(policy)
    url, base = worker.client.url, worker.models.get(fleet.pools[policy].served_name)
    made = changes.drained.get(url) or changes.added.get(url)
    engine = worker.load.engine
    return {
        "object": "worker",
        "id": worker.id,
        "policy": policy,
        "url": url,
        "source": worker.source,
        "state": worker.state,
        "reason": worker.reason or None,
        "changed": described_note(made) if made else None,
        "version": worker.version,
        "adapters": sorted(model.id for model in worker.models.values() if model.parent is not None),
        "alias": worker.alias,
        "max_model_len": base.max_model_len if base else None,
        "breaker": worker.breaker.state,
        "load": {
            "sequences": worker.load.sequences,
            "tokens": round(worker.load.tokens),
            "running": engine.running if engine else None,
            "waiting": engine.waiting if engine else None,
            "kv_usage": engine.kv_usage if engine else None,
        },
    }
