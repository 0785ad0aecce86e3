"""The endpoints: a request's headers in, files and small JSON out; nothing here decides anything."""

import functools
import re
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import asdict

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stillhouse.config import Table
from stillhouse.edge.service.bodies import Body, closing
from stillhouse.edge.service.door import Door
from stillhouse.edge.service.rates import Buckets, WebConfig
from stillhouse.edge.service.refusals import LengthRequired, Refusal, TooLarge, TooSlow, Unauthorized, Wait
from stillhouse.edge.service.service import Service
from stillhouse.edge.service.uploads import Part
from stillhouse.edge.signing import BODY, EMPTY
from stillhouse.errors import RunError


class Desk:
    """What a device may ask.

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
            return JSONResponse({"state": "spooled"}, 202, closing(request))
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
