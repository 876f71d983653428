"""Records in a real PostgreSQL server: a whole life, a restart, and texts that it cannot hold."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa
from tests.postgres import postgres_server, postgres_url
from tests.server.life import DATUM, done, open_run
from tests.serving import KEY, Server

__all__ = ["postgres_server", "postgres_url"]

pytestmark = pytest.mark.slow


def test_a_whole_life_is_recorded_and_found_again(postgres_url: str, tmp_path: Path) -> None:
    headers = {"Authorization": f"Api-Key {KEY}"}
    with (
        Server(tmp_path / "data", options=["--records-url", postgres_url]) as server,
        httpx.Client(base_url=server.url, headers=headers, timeout=60) as http,
    ):
        run = open_run(http)
        trainer = run["base_url"]
        done(http, trainer, "forward_backward", data=[DATUM])
        done(http, trainer, "optim_step", adam_params={})
        state = done(http, trainer, "save_state", name="state")
        saved = done(http, trainer, "save_weights_for_sampler", name="weights")
        wanted = {"session_id": run["session_id"], "run_id": run["id"]}
        sampler = http.post("/v1/loops/samplers", json=wanted).json()["sampler"]
        assert http.post("/v1/loops/samplers", json=wanted).json()["sampler"] == sampler

        server.restart()

        found = http.get(f"/v1/loops/runs/{run['id']}").json()["run"]
        assert found | {"max_seq_len": run["max_seq_len"]} == run  # told once the run is open
        assert http.get(f"{trainer}/policy_version").json()["policy_version"] == saved["version"]
        loaded = done(http, trainer, "load_state_with_optimizer", path=state["path"])
        assert loaded == {"step": 1}
        sampled = http.post(f"{sampler['base_url']}/sample", json={"prompt": [3], "max_tokens": 2})
        assert sampled.headers["x-trainers-policy-version"] == "1"
        listing = http.get("/v1/loops/checkpoints", params={"run_id": run["id"]}).json()
        assert {row["checkpoint_id"] for row in listing["checkpoints"]} == {"state", "weights"}
        assert not (tmp_path / "data" / "control.db").exists()
        assert server.stop() == 0
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        assert connection.execute(sa.text("SELECT id FROM runs")).scalars().all() == [run["id"]]
    engine.dispose()


def test_a_text_that_the_database_cannot_hold_is_refused(postgres_url: str, tmp_path: Path) -> None:
    headers = {"Authorization": f"Api-Key {KEY}"}
    with (
        Server(tmp_path / "data", options=["--records-url", postgres_url]) as server,
        httpx.Client(base_url=server.url, headers=headers, timeout=60) as http,
    ):
        run = open_run(http)
        wanted = {"session_id": run["session_id"], "base_model": "mock-tiny"}
        for reply in (
            http.get("/v1/loops/runs/a%00b"),
            http.get("/trainers/a%00b/health"),
            http.get("/v1/loops/checkpoints", params={"run_id": "a\0b"}),
            http.post("/v1/loops/trainers", json={**wanted, "name": "a\0b"}),
            http.post("/v1/loops/trainers", json={**wanted, "session_id": "a\0b"}),
            http.post("/v1/loops/trainers", json={**wanted, "seed": 2**80}),
            http.post(f"{run['base_url']}/load_state", json={"path": "bt://loops:a\0/weights/b"}),
        ):
            assert reply.status_code in (404, 422), (reply.request.url, reply.text)


def test_a_database_that_is_not_there_is_said_at_the_start(
    postgres_server: str, tmp_path: Path
) -> None:
    url = postgres_server.replace("loops@", "loops:a-secret@") + "/nobody-made-this"
    with pytest.raises(AssertionError, match="database") as caught:
        Server(tmp_path / "data", options=["--records-url", url])
    assert "Traceback" not in str(caught.value)
    assert "a-secret" not in str(caught.value)
