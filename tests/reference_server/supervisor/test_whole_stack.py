"""The whole stack, all parts of both regions: ready, whole again after each part was killed, gone after a SIGKILL."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from real_servers import wait_until
from stack_process import StackProcess

from reference_server.supervisor.control import stack_status
from reference_server.supervisor.parts import SERVICES
from reference_server.supervisor.readiness import is_ready
from reference_server.supervisor.sweep import marked

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def post(url: str, body: dict[str, Any], token: str = "") -> Any:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, method="POST", data=json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def texts(base: str, token: str) -> list[str]:
    request = urllib.request.Request(f"{base}/v1/feed", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return [item["text"] for item in json.load(answer)["items"]]


def test_every_part_comes_back_and_nothing_stays(start_stack: Callable[..., StackProcess]) -> None:
    stack = start_stack("--users", "20").await_ready()
    handles = [f"{region}.{name}" for region in ("us-east", "ap-tokyo") for name in SERVICES]
    assert set(handles) <= set(stack.endpoints["handles"])

    bases = {name: urls["api"] for name, urls in stack.endpoints["regions"].items()}
    token = post(f"{bases['us-east']}/v1/users", {"identity": "3"})["token"]
    post(f"{bases['us-east']}/v1/posts", {"text": "before the kills"}, token)
    for handle in handles:
        if handle.startswith("us-east."):
            stack.kill(handle)
    wait_until(lambda: stack_status(stack.stack).ready, "all parts ready again", 60)
    wait_until(lambda: "before the kills" in texts(bases["us-east"], token), "the post in us-east")
    wait_until(lambda: "before the kills" in texts(bases["ap-tokyo"], token), "the post in ap-tokyo")

    os.kill(stack.process.pid, signal.SIGKILL)
    wait_until(lambda: not marked(stack.mark), "all processes gone")


def test_server_whose_worker_lost_its_master_is_replaced(start_stack: Callable[..., StackProcess]) -> None:
    stack = start_stack("--users", "5", "--regions", "us-east", "--only", "api,graph").await_ready()
    master = stack.pid("us-east.api")
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: stack.pid("us-east.api") not in (0, master), "a new api")
    ready = stack.endpoints["handles"]["us-east.api"]["ready"]
    wait_until(lambda: asyncio.run(is_ready(ready)), "the new api has the port", 30)
