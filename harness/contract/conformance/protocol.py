"""Checks of HTTP itself: bodies, methods, health."""

from __future__ import annotations

from harness.contract.client import Health, Result
from harness.contract.conformance.registry import check
from harness.contract.conformance.trial import Trial

BODY_LIMIT_BYTES = 64 * 1024


@check("body-too-large")
async def body_too_large(t: Trial) -> None:
    """A body above 64 KiB answers 413."""
    member = await t.member()
    content = b'{"text":"x","more":"' + b"x" * BODY_LIMIT_BYTES + b'"}'
    answer: Result[None] = await member.api.call("POST", "/v1/posts", content=content)
    t.refused(answer, 413, "a body above 64 KiB")


@check("body-malformed")
async def body_malformed(t: Trial) -> None:
    """A body that is not JSON, or no object, answers 400."""
    member = await t.member()
    for content in (b"{", b"", b"\xff\xfe", b"[]", b'"text"', b"null"):
        answer: Result[None] = await member.api.call("POST", "/v1/posts", content=content)
        t.refused(answer, 400, f"the body {content!r}")


@check("unknown-members")
async def unknown_members(t: Trial) -> None:
    """Members of a request that the contract does not name are ignored."""
    member = await t.member()
    answer: Result[None] = await member.api.call("POST", "/v1/posts", body={"text": "x", "later_version": 7})
    t.done(answer, "a post with an unknown member")
    t.holds(answer.status == 201, f"a post with an unknown member answers {answer.status}")


@check("method-not-allowed")
async def wrong_method(t: Trial) -> None:
    """A method the contract does not have for a path answers 405."""
    member = await t.member()
    for method, path in (("PATCH", "/v1/feed"), ("GET", "/v1/posts"), ("DELETE", "/v1/users")):
        answer: Result[None] = await member.api.call(method, path)
        t.refused(answer, 405, f"{method} {path}")


@check("path-unknown")
async def unknown_path(t: Trial) -> None:
    """A path the contract does not have answers 404."""
    answer: Result[None] = await (await t.member()).api.call("GET", "/v1/no-such-thing")
    t.refused(answer, 404, "an unknown path")


@check("health")
async def health(t: Trial) -> None:
    """/healthz and /readyz answer 200 {"status":"ok"} at both base URLs of every region."""
    for region, urls in t.profile.regions.items():
        for base in {urls.api, urls.stream}:
            for path in ("/healthz", "/readyz"):
                answer = await t.client.at(urls).call("GET", path, Health, base=base)
                said = t.done(answer, f"{region} {path}").status
                t.holds(said == "ok", f"{region} {path} says {said!r}")


@check("metrics")
async def metrics(t: Trial) -> None:
    """/metrics answers 200 with text."""
    answer: Result[None] = await t.client.call("GET", "/metrics")
    t.done(answer, "metrics")
    content_type = answer.headers.get("content-type", "")
    t.holds(content_type.startswith(("text/plain", "application/openmetrics-text")), f"metrics are {content_type!r}")
