"""/admin/v1: what operators do. It needs a key with the scope `admin`; to read the log, `read-logs` does."""

from fastapi import APIRouter, Security
from fastapi.security import HTTPBearer

from gateway.api.admin import (
    adapters,
    cards,
    erasures,
    interactions,
    keys,
    profiles,
    releases,
    scorers,
    tenants,
    workers,
)

# For the OpenAPI page, which gets its button "Authorize" from it; `auth.caller_of` decides.
_bearer = HTTPBearer(auto_error=False, description="An API key, bk_...; see `bestow keys --help`.")

router = APIRouter(tags=["admin"], dependencies=[Security(_bearer)])
router.include_router(keys.router)
router.include_router(tenants.router)
router.include_router(workers.router)
router.include_router(adapters.router)
router.include_router(profiles.router)
router.include_router(scorers.router)
router.include_router(cards.router)
router.include_router(releases.router)
router.include_router(interactions.router)
router.include_router(erasures.router)
