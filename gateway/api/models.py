"""/v1/models: the public models that the caller may use."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api.auth import caller_of
from gateway.api.http import json_response
from gateway.serving import ChatService

router = APIRouter()


@router.get("/v1/models", summary="List the models an application can name")
async def list_models(request: Request) -> Response:
    service: ChatService = request.app.state.service
    created = request.app.state.started
    names = service.models.names(caller_of(request, "chat"))
    return json_response({"object": "list", "data": [_model(name, created) for name in names]})


@router.get("/v1/models/{model:path}", summary="One of them")
async def get_model(request: Request, model: str) -> Response:
    service: ChatService = request.app.state.service
    service.models.get(model, caller_of(request, "chat"))
    return json_response(_model(model, request.app.state.started))


def _model(name: str, created: int) -> dict[str, object]:
    return {"id": name, "object": "model", "created": created, "owned_by": "bestow"}
