"""The service over plain HTTP: requests as any client might send them, for rules about the wire."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

from loops_mock.contract.answers import Json, ok
from loops_mock.contract.rule import CheckFailed, expect

if TYPE_CHECKING:
    import httpx

    from loops_mock.contract.subject import Subject

USER_AGENT: Final = "baseten-loops/0.32.0"
"""What the published client of profile `loops-0.32` calls itself."""

TIMEOUT_S: Final = 60.0
_POLLS: Final = 20
"""How often a result is asked for before a rule gives up; each poll may be held for 30 s."""


@final
class Wire:
    """Sends requests and keeps them in the subject's log."""

    def __init__(self, subject: Subject) -> None:
        """Share the target's client."""
        self._subject = subject
        self._log = subject.log
        headers = {"User-Agent": USER_AGENT, "X-Baseten-Accept-Error": "1"}
        self._client = subject.target.http_client(headers)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        with_key: bool = True,
        timeout_s: float = TIMEOUT_S,
    ) -> httpx.Response:
        """Return the response to one request, whatever its status.

        Args:
            method: the HTTP method.
            path: below the service's address, or a whole URL.
            body: is sent as JSON; None = none.
            content: is sent as it is, instead of a body.
            headers: beside those that published clients send.
            params: the query.
            with_key: whether to show the key.
            timeout_s: seconds to wait for the next bytes.
        """
        sent = dict(headers or {})
        if with_key and self._subject.api_key is not None:
            sent.setdefault("Authorization", f"Api-Key {self._subject.api_key}")
        if body is not None:
            content = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        start = time.perf_counter()
        reply = self._client.request(
            method, path, content=content, headers=sent, params=params, timeout=timeout_s
        )
        self._keep(method, path, content, sent, reply, time.perf_counter() - start)
        return reply

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Return the response to a GET; options as in `request`."""
        return self.request("GET", path, **options)

    def post(self, path: str, body: object = None, **options: Any) -> httpx.Response:
        """Return the response to a POST; options as in `request`."""
        return self.request("POST", path, body=body, **options)

    def advertised(self) -> set[str]:
        """Return the extensions that the service says it has, such as `poll/1`."""
        target = self._subject.target
        if target.advertised is None:
            reply = self.get("/v1/loops/capabilities")
            target.advertised = str(reply.headers.get("X-Loops-Features", ""))
        return set(target.advertised.split())

    def open_session(self) -> str:
        """Return the id of a new session."""
        return ok(self.post("/v1/loops/sessions"))["session"]["id"]

    def create_trainer(self, *, session_id: str | None = None, **fields: object) -> httpx.Response:
        """Return the response to creating a trainer of a small adapter."""
        body: Json = {
            "session_id": self.open_session() if session_id is None else session_id,
            "base_model": self._subject.base_model,
            "lora_rank": 4,
            "replicas": 1,
            "availability_model": "dedicated",
            "seed": 7,
            **fields,
        }
        reply = self.post("/v1/loops/trainers", body)
        if reply.is_success:
            self._log.run_ids.append(reply.json()["run"]["id"])
        return reply

    def open_run(self, **fields: Any) -> WireRun:
        """Return a new run whose trainer is ready and fresh."""
        reply = self.create_trainer(**fields)
        run = WireRun(self, ok(reply)["run"])
        run.wait_ready()
        run.done("init_trainer_server", lora_rank=4, base_model=run.base_model)
        return run

    def datum(self) -> Json:
        """Return a small datum as JSON."""
        return json.loads(self._subject.datum().model_dump_json())

    def open_sampler(self, session_id: str, **source: object) -> Json:
        """Return the record of a sampler of a run, a base model or a checkpoint."""
        reply = self.post("/v1/loops/samplers", {"session_id": session_id, **source})
        return ok(reply)["sampler"]

    def sample(
        self, sampler: Json, *, headers: Mapping[str, str] | None = None, **body: object
    ) -> httpx.Response:
        """Return the response to a sample as published clients ask for it, `body` on top."""
        asked: Json = {
            "prompt": [5, 6, 7, 8],
            "n": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "logprobs": 0,
            "return_tokens_as_token_ids": True,
            "max_tokens": 4,
            "seed": 11,
            **body,
        }
        key = {"Idempotency-Key": str(uuid.UUID(int=int(self._subject.rng.integers(2**62))))}
        url = str(sampler["base_url"]).rstrip("/")
        return self.post(f"{url}/sample", asked, headers={**key, **(headers or {})})

    def _keep(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        reply: httpx.Response,
        seconds: float,
    ) -> None:
        shown = " ".join(f"{k}: {v}" for k, v in headers.items() if k.lower() not in _UNSHOWN)
        body = "" if content is None else content.decode("utf-8", "replace")
        answer = f"{reply.status_code} {reply.text}"
        is_link = path.startswith("http") and "Authorization" not in headers
        where = "a link to a file" if is_link else path
        asked = " ".join(text for text in (method, where, shown, body) if text)
        self._log.add(asked, answer, seconds, is_poll=method == "GET" and "/operations/" in path)


_UNSHOWN: Final = frozenset({"authorization", "content-type"})


@final
class WireRun:
    """One run over plain HTTP.

    Attributes:
        record: the run as the control plane gave it.
    """

    def __init__(self, wire: Wire, record: Json) -> None:
        """Speak to the trainer at the record's address."""
        self.wire = wire
        self.record = record

    @property
    def id(self) -> str:
        """Return the run's id."""
        return self.record["id"]

    @property
    def url(self) -> str:
        """Return the trainer's address."""
        return str(self.record["base_url"]).rstrip("/")

    @property
    def base_model(self) -> str:
        """Return the base model as the service spells it."""
        return self.record["base_model"]

    def wait_ready(self) -> None:
        """Return once the trainer is healthy, as published clients wait for it."""
        for _ in range(_POLLS):
            if self.get("/health", params={"base_model": self.base_model}).status_code == 200:
                return
            time.sleep(1)
        raise CheckFailed("the trainer should become healthy")

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Return the response to a GET below the trainer's address."""
        headers = {"X-Run-Id": self.id, **options.pop("headers", {})}
        return self.wire.get(f"{self.url}{path}", headers=headers, **options)

    def submit(
        self, operation: str, body: Json, *, key: str | None = None, **options: Any
    ) -> httpx.Response:
        """Return the response to submitting an operation."""
        full = {"seq_id": 1, "run_id": self.id, "model": self.base_model, **body}
        headers = {"X-Run-Id": self.id, **options.pop("headers", {})}
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.wire.post(f"{self.url}/{operation}", full, headers=headers, **options)

    def accepted(self, operation: str, body: Json, *, key: str | None = None) -> str:
        """Return the id of an operation that must be accepted."""
        reply = self.submit(operation, body, key=key)
        expect(
            reply.is_success and reply.json().get("operation_id"),
            f"{operation} should be accepted with an operation_id",
            status=reply.status_code,
            body=reply.text[:300],
        )
        return reply.json()["operation_id"]

    def poll(self, operation_id: str) -> httpx.Response:
        """Return the response to one poll."""
        from urllib.parse import quote

        return self.get(f"/operations/{quote(operation_id, safe='')}")

    def ended(self, operation_id: str) -> Json:
        """Return the status of an operation once it has ended, polled as published clients do."""
        for _ in range(_POLLS):
            reply = self.poll(operation_id)
            if reply.status_code == 408:
                continue
            return ok(reply)
        raise CheckFailed("the operation should end", {"operation_id": operation_id})

    def done(self, operation: str, **body: object) -> Json:
        """Return the result of an operation that must succeed."""
        status = self.ended(self.accepted(operation, body))
        expect(status.get("status") == "done", f"{operation} should succeed", status=status)
        return status["result"]
