"""A server from weights to its last request."""

from __future__ import annotations

import socket

import uvicorn

from partglee.engine import Predictor
from partglee.serve.app import create_app
from partglee.serve.limits import Limits
from partglee.structures import Vocabulary

# Seconds that an idle connection stays open: longer than clients wait before they try again, since one that asks just
# when it is closed sees a broken connection.
_KEEP_ALIVE = 65


def serve(
    predictor: Predictor,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str = "",
    vocabulary: Vocabulary | None = None,
    limits: Limits | None = None,
    remarks: dict[str, str] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        port: 0 = any that is free.
        name, vocabulary, limits, remarks: of `create_app`.

    Raises:
        OSError: for an address that is not ours, or taken.
        ValueError: for a port that is none.
    """
    app = create_app(predictor, name=name, vocabulary=vocabulary, limits=limits, remarks=remarks)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=256)
    except OverflowError as error:
        raise ValueError(f"a port is a number from 0 to 65535, got {port}; 0 takes any that is free") from error
    except OSError as error:
        raise OSError(f"cannot listen at {host} port {port} ({error.strerror}); pass another --port") from error
    with listener:
        shown = f"[{host}]" if ":" in host else host
        print(f"serving {name} at http://{shown}:{listener.getsockname()[1]}; Ctrl-C ends it", flush=True)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_keep_alive=_KEEP_ALIVE
        )
        uvicorn.Server(config).run(sockets=[listener])
