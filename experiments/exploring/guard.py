"""Who may ask: whoever was given the address with its token, from a page of this server alone.

A page of another site can send requests to this machine, too: DNS rebinding makes it look like us.
So the host is checked, the token becomes a cookie that other sites do not send, and requests that
the browser says come from elsewhere (``Sec-Fetch-Site``, ``Origin``) are refused.
"""

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cache-Control": "no-store",
}
OWN = ("same-origin", "none")
"""Where a request may come from, as ``Sec-Fetch-Site`` says; none is somebody's own address bar."""

STEP = """<!doctype html><html lang="en"><title>headroom</title>
<script>location.replace("/" + location.hash)</script><a href="/">headroom</a></html>"""
"""Where a link of another site leads: a browser sends the cookie only with what this page asks, not
with where such a link is led on to."""


VIEWER = "headroom.viewer"
"""Of a scope: by which cookie somebody is known."""


class Guard:
    """Lets requests with the token through, and nothing else.

    Who comes with the token gets a cookie: a name of their own, which tells viewers apart, and what
    only this server can sign it with. Whoever has the token may have several.
    """

    def __init__(self, app: Any, token: str, port: int) -> None:
        self.app, self.token = app, token
        self.cookie = f"headroom_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a websocket: there are none
            await send({"type": "websocket.close", "code": 1008})
            return
        request = Request(scope)
        refused = self._refused(request)
        if refused is not None:
            await refused(scope, receive, send)
            return
        if "token" in request.query_params:  # once: from now on it is a cookie, and out of sight
            answer: Response = RedirectResponse("/", headers=HEADERS)
            if _only(request, "sec-fetch-site", "none") not in OWN:
                answer = HTMLResponse(STEP, headers=HEADERS)
            known = self._viewer(request) or secrets.token_urlsafe(9)
            signed = f"{known}.{self._signature(known)}"
            answer.set_cookie(self.cookie, signed, httponly=True, samesite="strict")
            await answer(scope, receive, send)
            return
        scope[VIEWER] = self._viewer(request)

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            """Send a message, the headers of this page with its beginning."""
            if message["type"] == "http.response.start":
                own = [(key.lower().encode(), text.encode()) for key, text in HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        await self.app(scope, receive, with_headers)

    def _refused(self, request: Request) -> Response | None:
        if request.method != "GET":
            return PlainTextResponse("GET only", 405, HEADERS)
        site = _only(request, "sec-fetch-site", "none")
        given = request.query_params.get("token")
        if not (self._viewer(request) if given is None else _same(given, self.token)):
            text = "open the address that headroom explore printed: it has a token"
            return PlainTextResponse(text, 403, HEADERS)
        if site not in OWN and "token" not in request.query_params:
            return PlainTextResponse("not from another site", 403, HEADERS)
        own = f"http://{request.headers.get('host')}"
        if _only(request, "origin", own) != own:
            return PlainTextResponse("not from another site", 403, HEADERS)
        return None

    def _viewer(self, request: Request) -> str | None:
        """The name in the cookie, if it is one that was given here."""
        name, _, signature = request.cookies.get(self.cookie, "").partition(".")
        return name if name and _same(signature, self._signature(name)) else None

    def _signature(self, name: str) -> str:
        return hmac.new(self.token.encode(), name.encode(), "sha256").hexdigest()


def _only(request: Request, header: str, otherwise: str) -> str:
    """What a header says; of one that stands there twice, all that it says."""
    found = request.headers.getlist(header)
    return ", ".join(found) if found else otherwise


def _same(given: str, wanted: str) -> bool:
    """Whether two texts are alike; how long it takes does not tell how much of them is."""
    return secrets.compare_digest(given.encode(), wanted.encode())
