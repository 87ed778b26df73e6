"""GET /docs: the OpenAPI document as a page. Swagger UI comes from this machine, so that it works without internet."""

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.staticfiles import StaticFiles
from starlette.requests import Request
from starlette.responses import Response

router = APIRouter(include_in_schema=False)

_FILES = "/docs/files"
# The validator is a badge that another site draws.
_SETTINGS = {"validatorUrl": None, "persistAuthorization": True, "defaultModelsExpandDepth": 0}


def add_docs(app: FastAPI) -> None:
    """Add the page. Its files are read from disk when a browser asks, and the package's own code is not loaded."""
    app.include_router(router)
    app.mount(_FILES, StaticFiles(packages=[("fastapi_swagger", "resources")]))


@router.get("/docs")
async def docs(request: Request) -> Response:
    root = request.scope.get("root_path", "").rstrip("/")
    return get_swagger_ui_html(
        openapi_url=f"{root}/openapi.json",
        title=f"{request.app.title} API",
        swagger_js_url=f"{root}{_FILES}/swagger-ui-bundle.js",
        swagger_css_url=f"{root}{_FILES}/swagger-ui.css",
        swagger_favicon_url=f"{root}{_FILES}/favicon-32x32.png",
        swagger_ui_parameters=_SETTINGS,
    )
