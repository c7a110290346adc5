"""What is set or hidden through one api of a real stack holds at every api of both regions within 5 s."""

import json
import subprocess
import sys
import time

import httpx
import pytest

from reference_server.flags import FLAGS

pytestmark = [pytest.mark.slow, pytest.mark.stack]
LIMIT_S = 5.0


def feedstorm(*words):
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def awaited(probe, wanted, what):
    deadline = time.monotonic() + LIMIT_S
    while (found := probe()) != wanted:
        assert time.monotonic() < deadline, f"{what}: still {found}"
        time.sleep(0.02)


def test_flags_of_a_whole_stack(start_stack, tmp_path):
    stack = start_stack("--users", "50", "--apis", "2")
    stack.await_ready()
    folder = ["--dir", str(stack.stack.path)]
    regions = stack.endpoints["regions"]
    apis = [url for region in regions.values() for url in region["apis"]]
    assert (len(regions), len(apis)) == (2, 4)
    with httpx.Client(timeout=5) as http:
        token = http.post(f"{apis[0]}/v1/users", json={"identity": "1"}).json()["token"]
        headers = {"Authorization": f"Bearer {token}"}
        post = http.post(f"{apis[0]}/v1/posts", json={"text": "kept"}, headers=headers).json()["post"]["id"]

        def statuses():
            return {http.get(f"{url}/v1/feed", headers=headers).status_code for url in apis}

        awaited(statuses, {200}, "all apis know the user")
        shown = feedstorm("flags", *folder, "--json")
        assert shown.returncode == 0, shown.stderr
        assert [flag["name"] for flag in json.loads(shown.stdout)["flags"]] == list(FLAGS)

        switched = feedstorm("flags", "set", "kill_switch=on", "trace_one_in=7", *folder, "--json")
        assert switched.returncode == 0, switched.stderr
        told = json.loads(switched.stdout)
        assert [(flag["name"], flag["value"]) for flag in told["flags"]] == [("kill_switch", True), ("trace_one_in", 7)]
        assert set(told["in_force_s"]) == processes(regions)
        assert max(told["in_force_s"].values()) <= LIMIT_S
        answers = [http.get(f"{url}/v1/feed", headers=headers) for url in apis]
        assert {answer.status_code for answer in answers} == {503}
        assert all(answer.json()["detail"] == "the product is switched off" for answer in answers)

        back = feedstorm("flags", "reset", "kill_switch", "trace_one_in", *folder)
        assert back.returncode == 0, back.stderr
        assert "kill_switch" in back.stdout
        assert back.stderr.count("in force at") == len(told["in_force_s"])
        for url in apis:
            awaited(lambda url=url: _feed(http, url, headers), [post], "the post is still there")
        for method, expected in (("PUT", []), ("DELETE", [post])):
            assert http.request(method, f"{apis[0]}/v1/posts/{post}/hide", headers=headers).status_code == 204
            assert _feed(http, apis[0], headers) == expected
            for url in apis:
                awaited(lambda url=url: _feed(http, url, headers), expected, f"{method} hide through another api")

    for words, code, said in [
        (["set", "two_teir=off"], 2, "did you mean 'two_tier'?"),
        (["set", "two_tier=maybe"], 2, "two_tier"),
        (["set", "cache_mb=64"], 2, "read when a process starts"),
        (["set", "follow_cap=0"], 2, "follow_cap"),
    ]:
        refused = feedstorm("flags", *words, *folder)
        assert (refused.returncode, refused.stdout) == (code, ""), words
        assert said in refused.stderr
    (tmp_path / "token").write_text("forged")
    refused = feedstorm("flags", "--api", apis[0], "--token-file", str(tmp_path / "token"))
    assert refused.returncode == 2
    assert "operator token" in refused.stderr


def processes(regions):
    """All that follow flags, as `feedstorm flags` names them."""
    others = {"fep-0", "fanout-0", "graph", "jobs", "replicator"}
    apis = {f"{name} {url}" for name, region in regions.items() for url in region["apis"]}
    return apis | {f"{name} {part}" for name in regions for part in others}


def _feed(http, url, headers):
    answer = http.get(f"{url}/v1/feed", headers=headers)
    return [item["id"] for item in answer.json().get("items", [])]
