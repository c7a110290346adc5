"""Whole targets against the contract: generated requests (schemathesis), and the conformance checks.

Requests are generated for the reference stack (two regions) and for the independent in-memory feed, whose conformance
is shown in tests/conformance. Those for a stream, whose answer has no end, are made as bytes (`stream_requests`); they
go to the reference stack's fep itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import hypothesis
import msgspec
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from stream_requests import ask, judge, requests

import harness.contract
from harness.contract.conformance import REGISTRY, conform
from harness.contract.profile import Profile, load_profile, with_endpoints
from harness.core.verdict import Outcome

ROOT = Path(__file__).parents[2]
USERS = 400
EXAMPLES = 24
"""of each operation, target and kind: some 20 s in all"""
STREAM_EXAMPLES = 600
END_S = 20.0
REFUSES_WELL_FORMED = {
    "PUT /v1/follows/{id}": "400",  # oneself
    "DELETE /v1/follows/{id}": "400",
    "PUT /v1/blocks/{id}": "400",
    "DELETE /v1/blocks/{id}": "400",
    "GET /v1/feed": "400",  # a cursor that was not issued
    "POST /v1/feed": "400",
    "GET /v1/feed/new": "410",
    "PUT /v1/operator/flags/{name}": "400",  # no such flag, or no value for it
    "DELETE /v1/operator/flags/{name}": "400",
}
"""operations that may refuse a request although it is of the right shape, and how"""
ACCEPTED = ["2xx", "404"]
LACKING = {"memory": {"PUT /v1/posts/{id}/like", "GET /v1/users/me/import"}}

CONFIG = SchemathesisConfig.from_dict(
    {
        "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
        "operations": [
            {"include-name": label, "checks": {"positive_data_acceptance": {"expected-statuses": [*ACCEPTED, status]}}}
            for label, status in REFUSES_WELL_FORMED.items()
        ],
    }
)
SCHEMA = schemathesis.openapi.from_path(Path(harness.contract.__file__).parent / "openapi.yaml", config=CONFIG)
OPERATIONS = {o.ok().label: o.ok() for o in SCHEMA.exclude(path="/v1/stream").get_all_operations()}
CASES = [(label, GenerationMode.POSITIVE) for label in OPERATIONS]
CASES += [(label, GenerationMode.NEGATIVE) for label, o in OPERATIONS.items() if o.body]
"""malformed requests where there is a body: unknown query parameters are ignored, and ids are any text"""

pytestmark = [pytest.mark.slow, pytest.mark.stack]


@contextlib.contextmanager
def running(profile: Profile, folder: Path):
    """The target started by its profile's command, as a run would; gone afterwards."""
    values = {"python": sys.executable, "dir": str(folder), "users": str(USERS), "population": str(folder / "none")}
    command = [word.format(**values) for word in profile.start.command]
    if profile.name == "reference":  # without a population
        at = command.index("--population")
        command[at : at + 2] = ["--users", str(USERS)]
    endpoints = Path(profile.start.endpoints.format(**values))
    with (folder / "target.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    try:
        deadline = time.monotonic() + profile.start.ready_timeout_s
        while not endpoints.exists():
            assert process.poll() is None, (folder / "target.log").read_text()
            assert time.monotonic() < deadline, "not ready in time"
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        yield with_endpoints(profile, msgspec.json.decode(endpoints.read_bytes()))
    finally:
        process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


@pytest.fixture(scope="module", params=["reference", "memory"])
def target(request, tmp_path_factory):
    """A running target, with live addresses."""
    name = request.param
    profile = load_profile(name if name == "reference" else ROOT / "tests" / "conformance" / "memory_feed.toml")
    with running(profile, tmp_path_factory.mktemp(name)) as live:
        yield live


@pytest.fixture(scope="module")
def api(target):
    """Base URL and headers of a signed-up user."""
    url = next(iter(target.regions.values())).api
    token = httpx.post(f"{url}/v1/users", json={"identity": "0"}, timeout=5).json()["token"]
    return url, {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def operator(target):
    """Headers of the operator."""
    token = Path(target.operator_token_file).read_text().strip()
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(("label", "mode"), CASES, ids=lambda value: getattr(value, "value", value))
def test_generated_requests_are_answered_as_the_contract_says(target, api, operator, label, mode):
    if label in LACKING.get(target.name, ()):
        pytest.skip(f"target has no {label}")
    url, headers = api
    if "/operator/" in label:
        headers = operator

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def fuzz(case):
        case.call_and_validate(base_url=url, headers=headers, timeout=5)

    fuzz()
    if "/operator/flags/" in label:
        for flag in httpx.get(f"{url}/v1/operator/flags", headers=headers, timeout=5).json()["flags"]:
            httpx.delete(f"{url}/v1/operator/flags/{flag['name']}", headers=headers, timeout=5)


@pytest.mark.parametrize("target", ["reference"], indirect=True)
def test_generated_requests_for_a_stream_are_answered_and_the_fep_goes_on(target, api):
    name, region = next(iter(target.regions.items()))
    pid_file = Path(target.handles[f"{name}.fep"]["pid_file"])
    port, life = int(region.stream.rpartition(":")[2]), pid_file.read_text()
    token = api[1]["Authorization"].removeprefix("Bearer ")

    @hypothesis.settings(
        max_examples=STREAM_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(request=requests(token))
    def fuzz(request):
        judge(request, ask(port, request.raw))

    fuzz()
    assert pid_file.read_text() == life, "the fep died of it"
    with httpx.stream("GET", f"{region.stream}/v1/stream", headers=api[1], timeout=5) as response:
        assert response.status_code == 200
        assert b"\nid: " in next(response.iter_raw())


@pytest.mark.parametrize("target", ["reference"], indirect=True)
def test_the_reference_stack_conforms_in_every_point(target):
    assert len(target.regions) == 2
    checks = asyncio.run(conform(target, users=USERS))
    assert {c.name: (c.verdict, c.reason) for c in checks if c.verdict is not Outcome.PASS} == {}
    assert len([c for c in checks if not c.skipped]) == len(REGISTRY)
