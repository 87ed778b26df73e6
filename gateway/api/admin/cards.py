"""/admin/v1/models/{model}/card: what `bestow calibrate MODEL` measured, as all gateways serve by it."""

from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from gateway.api import openapi
from gateway.api.admin.operators import described_note, made_by, operator
from gateway.api.http import json_response, read_body
from gateway.api.protocol import convert, parse_json
from gateway.control.card_changes import no_card
from gateway.control.control import Control
from gateway.decoding.card import ModelCard

router = APIRouter()

# Its quantiles are most of it: some 20 KB.
MAX_CARD_BYTES = 1_048_576


class PutCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of PUT /admin/v1/models/{model}/card. card: the file that `bestow calibrate` wrote."""

    card: ModelCard
    reason: str | None = None


_EXAMPLE = {
    "card": {
        "format": 1,
        "model": "bestow-demo",
        "policy": "demo-policy@1",
        "reward_model": "reward@1",
        "created": 1796000000.0,
        "prompts": 60,
        "answers": 960,
        "law": {"count": 960, "mean": 0.1, "deviation": 1.2, "quantiles": [-3.0, 0.2, 2.9]},
        "deviation": 0.9,
        "residuals": [-2.9, 0.0, 2.4],
        "mean_tokens": 31.5,
    },
    "reason": "after the new reward model",
}


@router.get("/admin/v1/models/{model}/card", summary="What was measured of a model's policy and reward model")
async def get_card(request: Request, model: str) -> Response:
    operator(request)
    control: Control = request.app.state.control
    return json_response(_described(control, model))


@router.put(
    "/admin/v1/models/{model}/card",
    summary="Publish a model's card; on every gateway within about a second",
    description="`bestow calibrate MODEL` does it. Strategies use the card for as long as the policy and the reward "
    "model are the versions that it names.",
    openapi_extra=openapi.body(PutCard, _EXAMPLE),
)
async def put_card(request: Request, model: str) -> Response:
    caller = operator(request)
    control: Control = request.app.state.control
    body = convert(parse_json(await read_body(request, MAX_CARD_BYTES)), PutCard)
    await control.put_card(model, body.card, made_by(caller, control.now(), body.reason))
    return json_response(_described(control, model))


@router.delete("/admin/v1/models/{model}/card", summary="Forget a model's card")
async def remove_card(request: Request, model: str) -> Response:
    caller = operator(request)
    control: Control = request.app.state.control
    await control.remove_card(model, made_by(caller, control.now(), request.query_params.get("reason")))
    return json_response({"object": "model_card", "model": model, "deleted": True})


def _described(control: Control, model: str) -> dict[str, Any]:
    """Raises NotFound."""
    card, made = control.state.cards.get(model), control.state.card_notes.get(model)
    if card is None:
        raise no_card(model, control.state)
    return {
        "object": "model_card",
        "model": model,
        "card": msgspec.to_builtins(card),
        "changed": described_note(made) if made else None,
    }
