"""/healthz (the process lives), /readyz (it can answer requests), /metrics (Prometheus text).

None of them asks for a key: probes and scrapers have none. Keep /metrics from strangers in front of the gateway.
"""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from gateway.access.access import Access
from gateway.api.http import json_response
from gateway.telemetry.readiness import Readiness

router = APIRouter()


@router.get("/healthz", summary="200 while the process lives")
async def healthz() -> Response:
    return json_response({"status": "ok"})


@router.get("/readyz", summary="200 when every model can be answered; else 503 with what is missing, or stopping")
async def readyz(request: Request) -> Response:
    readiness: Readiness = request.app.state.readiness
    access: Access = request.app.state.access
    report = readiness.report() | {"access": access.health()}
    if report["status"] == "ready" and not access.ready:
        report["status"] = "not_ready"
    return json_response(report, 200 if report["status"] == "ready" else 503)


@router.get("/metrics", summary="Prometheus metrics")
async def metrics(request: Request) -> Response:
    registry = request.app.state.service.metrics.registry
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
