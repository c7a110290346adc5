"""A whole stack whose archive is damaged in one region: it says so, serves on, and has all posts again."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from reference_server.api.post_ids import from_text
from reference_server.durable import DurableUnavailable, SqliteReader

pytestmark = [pytest.mark.slow, pytest.mark.stack]
LIMIT_S = 20.0
POSTS = 30


async def rows_of(database: Path, ids):
    reader = SqliteReader(database)
    try:
        return await reader.posts(ids)
    except DurableUnavailable:
        return {}
    finally:
        await reader.close()


def awaited(probe, what):
    deadline = time.monotonic() + LIMIT_S
    while not (found := probe()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def test_the_peer_gives_back_what_was_lost(start_stack):
    stack = start_stack("--users", "50")
    stack.await_ready()
    apis = {name: region["api"] for name, region in stack.endpoints["regions"].items()}
    databases = {name: stack.settings.data(name) / "durable.db" for name in apis}
    with httpx.Client(timeout=5) as http:
        token = http.post(f"{apis['us-east']}/v1/users", json={"identity": "1"}).json()["token"]
        headers = {"Authorization": f"Bearer {token}"}

        def post(region, number):
            answer = http.post(f"{apis[region]}/v1/posts", json={"text": str(number)}, headers=headers)
            assert answer.status_code == 201, answer.text
            return answer.json()["post"]["id"]

        posts = [post(name, number) for number in range(POSTS) for name in apis]
        assert http.put(f"{apis['us-east']}/v1/posts/{posts[0]}/hide", headers=headers).status_code == 204
        ids = [from_text(text) for text in posts]

        def stored(region):
            return asyncio.run(rows_of(databases[region], ids))

        awaited(lambda: all(len(stored(name)) == 2 * POSTS for name in apis), "all is archived in both regions")
        awaited(lambda: all(stored(name)[ids[0]].status == 1 for name in apis), "so is the hide")
        expected = stored("ap-tokyo")

        hold = Path(stack.endpoints["handles"]["us-east.jobs"]["hold_file"])
        hold.touch()
        stack.kill("us-east.jobs")
        for path in (databases["us-east"], Path(f"{databases['us-east']}-wal")):
            path.write_bytes(b"garbage" * 2000)
        hold.unlink()
        awaited(lambda: stored("us-east") == expected, "all is back")

        stack.restart("us-east.memcached")
        lookup = {"ids": posts}

        def looked_up():
            answer = http.post(f"{apis['us-east']}/v1/posts/batch", json=lookup, headers=headers)
            return answer.status_code == 200 and {found["id"] for found in answer.json()["posts"]} == set(posts[1:])

        awaited(looked_up, "the api reads the new archive")
    logs = "".join(path.read_text(errors="replace") for path in (stack.stack.path / "logs").glob("us-east.jobs*"))
    assert "durable.db is damaged" in logs
