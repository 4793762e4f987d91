"""The HTTP limit: a bare Starlette route that reads JSON and writes it back, served with the API's own settings.

`python -m bench.load.echo PORT`
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from nexus_graph.app import server_config
from nexus_graph.config import Settings

HOST = "127.0.0.1"


async def echo(request: Request) -> JSONResponse:
    """What was sent."""
    return JSONResponse(await request.json())


async def health(_: Request) -> JSONResponse:
    """Says that it listens."""
    return JSONResponse({})


def main() -> None:
    """Serve on the loopback address until stopped."""
    app = Starlette(routes=[Route("/echo", echo, methods=["POST"]), Route("/health", health)])
    config = server_config(app, Settings())
    config.host, config.port = HOST, int(sys.argv[1])
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
