"""A client that calls an ASGI application in this process."""

import asyncio
import json

import httpx

JSON = {"Content-Type": "application/json"}


class Client:
    """Sends requests one after the other, or many at once; the application runs between enter and exit."""

    def __init__(self, app, headers=None, host="localhost"):
        self.app = app
        self._options = {"base_url": f"http://{host}", "headers": headers or {}, "timeout": 60}

    def __enter__(self):
        self._runner = asyncio.Runner()
        self._alive = self.app.router.lifespan_context(self.app)
        self._runner.run(self._alive.__aenter__())
        self._http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), **self._options)
        return self

    def __exit__(self, *error):
        self._runner.run(self._http.aclose())
        self._runner.run(self._alive.__aexit__(*error))
        self._runner.close()

    def ask(self, method, path, body=None, **options):
        """Send an object, or bytes as they are."""
        return self._runner.run(self._ask(method, path, body, options))

    def post(self, path, body, **options):
        return self.ask("POST", path, body, **options)

    def get(self, path, **options):
        return self.ask("GET", path, **options)

    def at_once(self, path, bodies):
        """Post many objects at the same time; return the responses in their order."""

        async def together():
            return await asyncio.gather(*(self._ask("POST", path, body, {}) for body in bodies))

        return self._runner.run(together())

    def wait(self, seconds):
        self._runner.run(asyncio.sleep(seconds))

    async def _ask(self, method, path, body, options):
        content = body if body is None or hasattr(body, "__aiter__") or isinstance(body, bytes) else json.dumps(body)
        headers = {**(JSON if body is not None else {}), **options.get("headers", {})}
        return await self._http.request(method, path, content=content, headers=headers)
