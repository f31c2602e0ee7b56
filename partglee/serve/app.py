"""The routes of a server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from partglee import __version__
from partglee.engine import Predictor
from partglee.serve.body import BodyLimit
from partglee.serve.limits import Limits
from partglee.serve.metrics import Counted
from partglee.serve.parsing import Parsing
from partglee.serve.refusals import Refusal
from partglee.serve.requests import FIELDS
from partglee.structures import Vocabulary

PAGE = Path(__file__).parent / "page"
_log = logging.getLogger(__name__)


def create_app(
    predictor: Predictor,
    *,
    name: str = "",
    vocabulary: Vocabulary | None = None,
    limits: Limits | None = None,
    remarks: dict[str, str] | None = None,
) -> FastAPI:
    """A server around one model, as an ASGI application.

    Args:
        name: what the model is called.
        vocabulary: asked for where a request names none, and shown first on the page.
        remarks: of the weights, such as the terms of their training data.
    """
    limits = limits or Limits()
    parsing = Parsing(predictor, limits=limits, vocabulary=vocabulary)

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        parsing.start()
        try:
            yield
        finally:
            await asyncio.to_thread(parsing.close)

    app = FastAPI(title="partglee", version=__version__, lifespan=running, docs_url=None, redoc_url=None)
    app.state.parsing = parsing
    about = {
        "version": __version__,
        "model": name,
        "remarks": remarks or {},
        "score_threshold": predictor.score_threshold,
        "vocabulary": None if vocabulary is None else vocabulary.to_dict(),
        "known_names": len(parsing.names),
        "closed_vocabulary": parsing.names.closed,
        "limits": limits.__dict__,
    }
    _add_routes(app, parsing, about)
    _add_errors(app)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.add_middleware(BodyLimit, limits=limits)
    app.add_middleware(Counted, metrics=parsing.metrics)
    return app


def _add_routes(app: FastAPI, parsing: Parsing, about: dict[str, Any]) -> None:
    @app.post("/v1/parse", openapi_extra={"requestBody": _FORM}, summary="Objects and parts of one image")
    async def parse(request: Request) -> JSONResponse:
        return JSONResponse(await parsing(request))

    @app.get("/v1/vocabulary", summary="Known names: of objects, or of the parts of one")
    async def names(prefix: str = "", object: str = "", limit: int = 20) -> dict[str, Any]:
        if not 1 <= limit <= 200:
            raise Refusal(422, "number_wrong", f"limit must be from 1 to 200, got {limit}")
        if max(len(prefix), len(object)) > parsing.limits.letters:
            raise Refusal(422, "name_too_long", f"a name may have {parsing.limits.letters} letters")
        return {"names": parsing.names.complete(prefix, of=object or None, limit=limit)}

    @app.get("/v1/info", summary="The model, its names, the limits")
    async def info() -> dict[str, Any]:
        return about

    @app.get("/health", summary="200 while requests are worked off")
    async def health() -> JSONResponse:
        good = parsing.alive
        return JSONResponse({"status": "ok" if good else "the model's thread has ended"}, 200 if good else 503)

    @app.get("/metrics", summary="For Prometheus")
    async def metrics() -> Response:
        return Response(parsing.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_errors(app: FastAPI) -> None:
    """Every answer that is no 200 has one form."""

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return JSONResponse(error.content, error.status, headers=error.headers)

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, StarletteHTTPException)
        refusal = Refusal(error.status_code, "http", f"{error.detail}; /openapi.json describes the routes")
        return JSONResponse(refusal.content, error.status_code, headers=error.headers)

    async def query(_: Request, error: Exception) -> Response:
        first = getattr(error, "errors", list)()[0]
        told = f"{first['loc'][-1]}: {first['msg']}"
        return JSONResponse(Refusal(422, "query_wrong", f"a wrong value in the query: {told}").content, 422)

    async def broken(_: Request, error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        told = "the server failed at this request, which is its own fault; it goes on, and its log says why"
        return JSONResponse(Refusal(500, "failed", told).content, 500)

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(StarletteHTTPException, http)
    app.add_exception_handler(RequestValidationError, query)
    app.add_exception_handler(Exception, broken)


_FORM = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {
                    name: {"type": "string", "description": told, **({"format": "binary"} if name == "image" else {})}
                    for name, told in FIELDS.items()
                },
            }
        }
    },
}
