"""What load clients read of pages: a post that was seen before is not decoded again, a changed one is."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.core.op import Op, OpKind, OpOutcome, text_hash
from harness.load import wire
from harness.load.wire import Item, decode_page, fill_items, seen


def post(name: str, text: str = "hello", author: str = "7", **fields: Any) -> dict[str, Any]:
    return {"id": name, "author": author, "created_at_us": 5, "text": text, **fields}


def page(*posts: dict[str, Any], cursor: str | None = None) -> bytes:
    return msgspec.json.encode({"items": posts, "next_cursor": cursor})


def test_a_page_is_what_it_says() -> None:
    answer = decode_page(page(post("a"), post("b", reply_to="a", colour="blue"), cursor="c"))
    assert answer.next_cursor == "c"
    assert [(i.id, i.author, i.created_at_us, i.text, i.reply_to) for i in answer.items] == [
        ("a", "7", 5, "hello", None),
        ("b", "7", 5, "hello", "a"),
    ]
    assert decode_page(page()).items == []


def test_a_post_in_the_same_bytes_is_the_same_item_and_a_changed_one_is_not() -> None:
    [first, other] = decode_page(page(post("a"), post("b"))).items
    [again, changed] = decode_page(page(post("b"), post("a", text="hullo"))).items
    assert again is other
    assert (changed.text, changed.text_hash) == ("hullo", text_hash("hullo"))
    assert first.text_hash == text_hash("hello")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "REMEMBERED_ITEMS", 10)
    for n in range(100):
        assert [item.id for item in decode_page(page(post(f"p{n}"), post(f"q{n}"))).items] == [f"p{n}", f"q{n}"]
    assert len(wire._known) <= 10


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"items":[{"id":"a"}]}', b'{"items":[7]}', b'{"items":7}', b'{"items":[{"id":"a",}]}'],
)
def test_what_is_no_page_is_refused(content: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_page(content)


def test_items_are_recorded_in_page_order() -> None:
    times = {"due_ns": 1, "sent_ns": 1, "done_ns": 1}
    op = Op(id=1, kind=OpKind.FEED, session="s", user=1, region="r", outcome=OpOutcome.OK, **times)
    fill_items(op, [seen(Item("a", "7", 5, "x")), seen(Item("b", "stranger", 4, "y"))])
    assert (op.ids, op.item_ts_us, op.item_authors) == (["a", "b"], [5, 4], [7, -1])
    assert op.item_hashes == [text_hash("x"), text_hash("y")]
