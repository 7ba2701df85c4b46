"""The page for people, and the numbers that it asks for."""

from collections.abc import Collection
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import HTMLResponse, JSONResponse

from latadj_jax.serving.http.problems import documented
from latadj_jax.serving.http.service import Service
from latadj_jax.serving.http.stats import stats_of

PAGE = Path(__file__).with_name("page.html")
POLICY = (  # of what the page may do: nothing but ask this server
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self'; frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
)


def page_routes(service: Service, paths: Collection[str]) -> APIRouter:
    """
    Args:
      paths: the routes of the model's task, whose requests are shown.
    """
    router, page = APIRouter(), PAGE.read_text("utf-8")

    @router.get("/", include_in_schema=False)
    async def show():
        return HTMLResponse(page, headers={"Content-Security-Policy": POLICY})

    @router.get("/stats", responses=documented(401))
    async def stats():
        """Counts since the start, as the page reads them."""
        return JSONResponse(stats_of(service, paths), headers={"Cache-Control": "no-store"})

    return router
