"""The service over HTTPS, for Starlette: headers in, files and small JSON out; nothing here decides anything.

A body goes to the disk block by block. What does not say its length, is too long or drips is cut off.
"""

import asyncio
import functools
import logging
import math
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import asdict

from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stillhouse.config import Table
from stillhouse.edge.service.bodies import Body
from stillhouse.edge.service.door import Door
from stillhouse.edge.service.rates import Buckets, WebConfig
from stillhouse.edge.service.refusals import LengthRequired, Refusal, TooLarge, TooSlow, Unauthorized, Wait
from stillhouse.edge.service.service import Service
from stillhouse.edge.service.uploads import Part
from stillhouse.edge.signing import BODY, EMPTY
from stillhouse.errors import RunError

log = logging.getLogger("stillhouse.edge")
BLOCK = 1 << 18
RETRY_SECONDS = 60


class Desk:
    """The endpoints.

    Args:
        service: answers.
        recipe: of the core, told with every lease.
        config: settings.
    """

    def __init__(self, service: Service, recipe: Table, config: WebConfig) -> None:
        self._service, self._recipe, self._config = service, recipe, config
        self._door = Door(service.database, service.clock)
        self._nodes = Buckets(config.requests_per_second, config.burst)
        self._strangers = Buckets(config.requests_per_second, config.burst)

    async def lease(self, request: Request) -> Response:
        """`POST /v1/lease`."""
        node = await self._admit(request)
        grant = await run_sync(self._service.lease, node)
        return JSONResponse({**asdict(grant), "recipe": self._recipe}, 201)

    async def model(self, request: Request) -> ASGIApp:
        """`GET /v1/lease/{id}/model`, whole or from an offset on."""
        node, lease = await self._admit(request), request.path_params["lease"]
        path = await run_sync(self._service.model, node, lease)
        return _Counted(FileResponse(path, media_type="application/octet-stream"), self._service, node, lease)

    async def questions(self, request: Request) -> ASGIApp:
        """`GET /v1/lease/{id}/questions`, whole or from an offset on."""
        node, lease = await self._admit(request), request.path_params["lease"]
        path = await run_sync(self._service.questions, node, lease)
        return _Counted(FileResponse(path, media_type="application/octet-stream"), self._service, node, lease)

    async def beat(self, request: Request) -> Response:
        """`POST /v1/lease/{id}/beat`."""
        node, lease = await self._admit(request), request.path_params["lease"]
        return JSONResponse({"deadline": await run_sync(self._service.beat, node, lease)})

    async def state(self, request: Request) -> Response:
        """`GET /v1/lease/{id}`."""
        node, lease = await self._admit(request), request.path_params["lease"]
        known = await run_sync(self._service.state, node, lease)
        return JSONResponse({"state": known.state, "reason": known.reason})

    async def offset(self, request: Request) -> Response:
        """`HEAD /v1/lease/{id}/result`."""
        node, lease = await self._admit(request), request.path_params["lease"]
        return Response(headers={"upload-offset": str(await run_sync(self._service.offset, node, lease))})

    async def result(self, request: Request) -> Response:
        """`PUT /v1/lease/{id}/result`: the return, or a part of it."""
        part = _announced(request.headers)
        body = Body(request, self._config)
        try:
            return await self._take(request, part, body)
        except TooSlow:
            request.state.unread = True
            raise
        except (Refusal, RunError):
            await body.drain()
            request.state.unread = not body.is_over
            raise

    async def _take(self, request: Request, part: Part, body: Body) -> Response:
        node, lease = await self._admit(request, has_body=True), request.path_params["lease"]
        upload = await run_sync(self._service.receive, node, lease, part)
        if upload is None:
            await body.drain()
            request.state.unread = not body.is_over
            return JSONResponse({"state": "spooled"}, 202, _closing(request))
        received = 0
        try:
            with self._service.transfer(lease):
                async with aclosing(body.blocks()) as blocks:
                    async for block in blocks:
                        received += len(block)
                        await run_sync(upload.write, block)
                await run_sync(upload.finish)
        finally:
            await run_sync(upload.abandon)
            await run_sync(functools.partial(self._service.count, node, lease, up=received))
        headers = {"upload-offset": str(part.offset + part.size)}
        return JSONResponse({"state": "spooled" if part.is_last else "out"}, 202, headers)

    async def _admit(self, request: Request, *, has_body: bool = False) -> str:
        """The node that signed the request; refuses bodies where none belongs."""
        address = request.client.host if request.client else ""
        if wait := self._strangers.wait(address):
            raise Wait("too many requests were refused", wait)
        if not has_body and (
            "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"
        ):
            raise TooLarge("this request has no body")
        query = request.scope["query_string"].decode("ascii", "replace")
        path = request.scope["raw_path"].decode("ascii", "replace") + (f"?{query}" if query else "")
        try:
            node = await run_sync(self._door.admit, request.method, path, request.headers)
            if not has_body and request.headers[BODY] != EMPTY:
                raise Unauthorized("the signed body is not the empty one")
        except Unauthorized:
            self._strangers.take(address)
            raise
        if wait := self._nodes.wait(node):
            raise Wait("too many requests", wait)
        self._nodes.take(node)
        return node


def edge_app(service: Service, recipe: Table, config: WebConfig = WebConfig()) -> Starlette:  # noqa: B008 (frozen)
    """The application; while it runs, leases end when their time is over.

    Args:
        service: answers.
        recipe: of the core, as nested plain values.
        config: settings.
    """
    desk = Desk(service, recipe, config)

    @asynccontextmanager
    async def ticking(app: Starlette) -> AsyncIterator[None]:
        task = asyncio.create_task(_tick(service))
        yield
        task.cancel()

    return Starlette(
        routes=[
            Route("/v1/lease", desk.lease, methods=["POST"]),
            Route("/v1/lease/{lease}/model", desk.model, methods=["GET"]),
            Route("/v1/lease/{lease}/questions", desk.questions, methods=["GET"]),
            Route("/v1/lease/{lease}/beat", desk.beat, methods=["POST"]),
            Route("/v1/lease/{lease}/result", desk.offset, methods=["HEAD"]),
            Route("/v1/lease/{lease}/result", desk.result, methods=["PUT"]),
            Route("/v1/lease/{lease}", desk.state, methods=["GET"]),
        ],
        exception_handlers={Refusal: _refuse, RunError: _fail, ClientDisconnect: _hang_up},
        lifespan=ticking,
    )


class _Counted:
    """A response whose body is counted, and during which the lease counts as alive."""

    def __init__(self, response: Response, service: Service, node: str, lease: str) -> None:
        self._response, self._service, self._node, self._lease = response, service, node, lease

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = 0

        async def counting(message: Message) -> None:
            nonlocal sent
            await send(message)
            sent += len(message.get("body", b""))

        try:
            with self._service.transfer(self._lease):
                await self._response(scope, receive, counting)
        finally:
            await run_sync(functools.partial(self._service.count, self._node, self._lease, down=sent))


def _announced(headers: Mapping[str, str]) -> Part:
    """What the headers say of the body.

    Raises:
        LengthRequired: they do not say how long it is.
        Refusal: they say what cannot be.
    """
    if "content-length" not in headers:
        raise LengthRequired("the body does not say its length")
    numbers = {name: headers.get(name, "0") for name in ("upload-offset", "upload-length", "content-length")}
    digest = headers.get("upload-digest", "")
    well_formed = all(re.fullmatch(r"\d{1,15}", text, re.ASCII) for text in numbers.values())
    if not (well_formed and re.fullmatch("([0-9a-f]{64})?", digest)):
        raise Refusal("upload-offset, upload-length and upload-digest: numbers and a SHA-256 in hex are expected")
    offset, total, size = map(int, numbers.values())
    return Part(offset, size, headers.get(BODY, ""), total, digest)


async def _tick(service: Service) -> None:
    """Let go of what is over, again and again; a database that refuses is asked again."""
    while True:
        await asyncio.sleep(service.config.beat_seconds / 2)
        try:
            await run_sync(service.tick)
        except RunError as error:
            log.error("%s", error)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    headers = _closing(request)
    if "retry_after" in error.told:
        headers["retry-after"] = str(math.ceil(float(error.told["retry_after"])))
    if "offset" in error.told:
        headers["upload-offset"] = str(error.told["offset"])
    return JSONResponse({"error": error.reason, **error.told}, error.status, headers)


async def _fail(request: Request, error: Exception) -> Response:
    """The disk or the database refuses: not the device's fault, and it may try again."""
    log.error("%s", error)
    headers = {**_closing(request), "retry-after": str(RETRY_SECONDS)}
    return JSONResponse({"error": "the server cannot write at present"}, 503, headers)


async def _hang_up(request: Request, error: Exception) -> Response:
    return Response(status_code=400, headers={"connection": "close"})  # nobody is there to read it


def _closing(request: Request) -> dict[str, str]:
    """The line ends where a body was left unread: what follows on it is no request."""
    return {"connection": "close"} if getattr(request.state, "unread", False) else {}
