"""Feeds older than the lanes keep, the flags of reading, and two apis of one region, with real stores."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from api_region import ApiRegion, User, eventually
from real_servers import Server, free_port

from reference_server.api.command import api_command
from reference_server.api.post_ids import to_text
from reference_server.durable import ArchiveBatch
from reference_server.durable.archive_pages import REFILL, REFILLED
from reference_server.durable.sqlite_writer import FILE_NAME, SqliteWriter
from reference_server.settings import write_settings

pytestmark = [pytest.mark.slow, pytest.mark.stack]


async def posts_of(author: User, count: int, **members: Any) -> list[dict[str, Any]]:
    """Newest first."""
    return [await author.post(str(number), **members) for number in range(count)][::-1]


def ids_of(posts: list[dict[str, Any]]) -> list[str]:
    return [post["id"] for post in posts]


async def set_flag(region: ApiRegion, name: str, value: Any) -> None:
    assert (await region.operate("PUT", f"flags/{name}", json={"value": value})).status_code == 200


async def test_a_walk_goes_on_in_the_durable_store_without_seam(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    posts = await posts_of(alice, 30)
    own = await bob.post("in between")
    posts = [own, *posts]
    await region.archive()
    for boundary in (0, 7, 30):
        region.horizon_us = posts[boundary]["created_at_us"]
        for limit in (4, 31, 100):
            pages = await bob.walk(limit)
            assert [post for page in pages for post in page] == ids_of(posts)
            assert all(len(page) == limit for page in pages[:-1])
    metrics = await region.metrics()
    assert 'api_feed_deeper_total{part="api-0",source="durable"}' in metrics
    gone = posts.pop(20)
    assert (await alice.call("DELETE", f"/v1/posts/{gone['id']}")).status_code == 204
    assert [post for page in await bob.walk(6) for post in page] == ids_of(posts)


async def test_one_who_was_away_for_days_gets_all_from_the_durable_store(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    posts = await posts_of(alice, 12)
    await region.archive()
    region.horizon_us = posts[0]["created_at_us"] + 1
    answer = await bob.call("GET", "/v1/feed")
    assert ids_of(answer.json()["items"]) == ids_of(posts)
    assert "feed-degraded" not in answer.headers
    assert (await bob.call("PUT", "/v1/blocks/1")).status_code == 204
    assert await bob.feed() == []


async def test_an_archive_that_is_being_filled_anew_is_not_taken_for_whole(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    posts = await posts_of(alice, 12)
    await region.archive()
    writer = SqliteWriter(region.settings.data("us-east") / FILE_NAME)
    writer.archive(ArchiveBatch(positions={REFILL: ""}))
    region.horizon_us = posts[0]["created_at_us"] + 1

    async def is_marked() -> bool:
        answer = await bob.call("GET", "/v1/feed")
        assert ids_of(answer.json()["items"]) == ids_of(posts)
        return answer.headers.get("feed-degraded") == "stale"

    async def is_unmarked() -> bool:
        return not await is_marked()

    unknown = {"ids": [to_text(bytes(16))]}
    await eventually(is_marked, "what is behind the horizon may not be all", 5)
    answer = await bob.call("POST", "/v1/posts/batch", json=unknown)
    assert answer.headers.get("feed-degraded") == "stale", "it may exist"
    writer.archive(ArchiveBatch(positions={REFILL: REFILLED}))
    writer.close()
    await eventually(is_unmarked, "it is whole again", 5)
    assert "feed-degraded" not in (await bob.call("POST", "/v1/posts/batch", json=unknown)).headers


async def test_without_owners_a_walk_ends_in_the_durable_store_and_says_so(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    posts = await posts_of(alice, 12)
    await region.archive()
    region.lanes_hang.set()
    walked, cursor = [], None
    while True:
        answer = await bob.call("GET", "/v1/feed", params={"limit": 5} | ({"cursor": cursor} if cursor else {}))
        assert answer.headers["feed-degraded"] == "stale"
        walked += ids_of(answer.json()["items"])
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            break
    region.lanes_hang.clear()
    assert walked == ids_of(posts)


async def test_labels_are_kept_from_those_who_may_not_see_them_and_never_from_their_author(region: ApiRegion) -> None:
    alice, bob, carol = region.user(1), region.user(2), region.user(3)
    for reader in (bob, carol):
        await reader.follow(1)
    anchor = await alice.post("for all")
    adult = await alice.post("not for all", labels=["adult"])
    assert (await bob.call("PATCH", "/v1/users/me", json={"minor": True})).status_code == 200
    assert (await alice.call("PATCH", "/v1/users/me", json={"minor": True})).status_code == 200
    await region.archive()
    for horizon_us in (0, anchor["created_at_us"] + 1, adult["created_at_us"] + 1):
        region.horizon_us = horizon_us
        assert await bob.feed() == [anchor["id"]]
        assert await carol.feed() == [adult["id"], anchor["id"]]
        assert await alice.feed() == [adult["id"], anchor["id"]]
    region.horizon_us = 0
    for reader, expected in ((bob, []), (carol, [adult["id"]])):
        answer = await reader.call("GET", "/v1/feed/new", params={"since": anchor["id"]})
        assert ids_of(answer.json()["items"]) == expected


async def test_flags_of_reading_are_followed(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    posts = ids_of(await posts_of(alice, 3))
    assert (await bob.call("PUT", "/v1/blocks/1")).status_code == 204
    assert await bob.feed() == []

    async def shows_all() -> bool:
        return await bob.feed() == posts

    await set_flag(region, "read_filters", False)
    await eventually(shows_all, "blocks are not applied", 5)

    async def seen() -> list[str]:
        answer = await bob.call("POST", "/v1/feed", json={"seen": posts[:2]})
        return ids_of(answer.json()["items"])

    assert await seen() == posts[2:]
    await set_flag(region, "soft_dedup", False)

    async def shows_seen() -> bool:
        return await seen() == posts

    await eventually(shows_seen, "seen ids are not left out", 5)

    await set_flag(region, "cache_first", False)

    async def is_stale() -> bool:
        answer = await bob.call("GET", "/v1/feed")
        return answer.headers.get("feed-degraded") == "stale" and answer.json()["items"] == []

    await eventually(is_stale, "reads begin at the durable store, where nothing is yet", 5)
    await region.archive()
    assert await bob.feed() == posts


async def test_what_was_deleted_through_one_api_is_gone_from_the_authors_next_page_of_another(
    region: ApiRegion,
) -> None:
    ports = (*region.region.api_ports, free_port())
    both = msgspec.structs.replace(region.region, api_ports=ports)
    region.settings = msgspec.structs.replace(region.settings, regions=(both,))
    await region.restart()
    path = region.folder / "settings.json"
    write_settings(path, region.settings)
    argv, environment = api_command(path, region.settings, "us-east", 1)
    second = Server(argv, ports[1], environment)
    await asyncio.to_thread(second.start)
    try:
        alice, bob = region.user(1), region.user(2)
        await bob.follow(1)

        async def feed(reader: User) -> list[str]:
            answer = await reader.call("GET", f"http://127.0.0.1:{ports[1]}/v1/feed")
            return ids_of(answer.json().get("items", []))

        posts = ids_of(await posts_of(alice, 5))

        async def at_hand() -> bool:
            return await feed(alice) == posts == await feed(bob)

        await eventually(at_hand, "the second api shows them, and so has them at hand")
        for gone in posts[1:3]:
            assert (await alice.call("DELETE", f"/v1/posts/{gone}")).status_code == 204
            assert gone not in await feed(alice)

        async def gone_for_others() -> bool:
            return await feed(bob) == [posts[0], *posts[3:]]

        await eventually(gone_for_others, "others see the delete within a second", 1.5)
    finally:
        second.kill()
