"""The in-memory feed with one rule broken at a time. Each names the check that must catch it."""

from __future__ import annotations

import itertools

from aiohttp import web
from memory_feed import Server
from memory_state import Feed, Post, Refused


class AcceptsForgedTokens(Feed):
    def user_of(self, token):
        return self.tokens.get(token, ("7", 0))[0]


class KeepsUnfollowed(Feed):
    def unfollow(self, user, other):
        pass


class BlocksOneWayOnly(Feed):
    def visible(self, user, post):
        return super().visible(user, post) or (post.author, user) in self.blocks


class IgnoresIdempotencyKeys(Feed):
    def accept(self, author, text, reply_to, key):
        return super().accept(author, text, reply_to, None)


class ForgetsOwnPostsForOneRead(Feed):
    def page(self, user, limit, cursor, seen):
        items, following = super().page(user, limit, cursor, seen)
        fresh = {p.id for p in items if p.author == user} - vars(self).setdefault("read_once", set())
        self.read_once |= fresh
        return [p for p in items if p.id not in fresh], following


class StandsStillInTime(Feed):
    def accept(self, author, text, reply_to, key):
        first, post = super().accept(author, text, reply_to, key)
        return first, Post(post.id, author, 1, text, reply_to, post.seq)


class NeverDeletes(Feed):
    def delete(self, user, post_id):
        pass


class LetsAnyoneDelete(Feed):
    def delete(self, user, post_id):
        self.deleted.add(post_id)


class ResurrectsInLookups(Feed):
    def readable(self, post_id):
        return post_id in self.posts


class UnorderedPages(Feed):
    def page(self, user, limit, cursor, seen):
        items, following = super().page(user, limit, cursor, seen)
        return items[::-1], following


class RepeatsAPost(Feed):
    def page(self, user, limit, cursor, seen):
        items, following = super().page(user, limit, cursor, seen)
        return items + items[-1:], following


class SkipsBetweenPages(Feed):
    def read_cursor(self, user, cursor):
        before = super().read_cursor(user, cursor)
        skipped = list(itertools.islice(self.newest(user, before), 1)) if before else []
        return skipped[0].key if skipped else before


class OverlappingPages(Feed):
    def make_cursor(self, user, last):
        return super().make_cursor(user, next(iter(self.arrivals[last.seq : last.seq + 1]), last))


class PagesByOffset(Feed):
    """The classic mistake: a cursor that counts, so that arrivals shift the pages."""

    def page(self, user, limit, cursor, seen):
        offset = int(cursor or 0)
        items = list(itertools.islice(self.newest(user, None), offset, offset + limit))
        return items, str(offset + limit) if items else None


class SharesCursors(Feed):
    def make_cursor(self, user, last):
        return super().make_cursor("anyone", last)

    def read_cursor(self, user, cursor):
        return super().read_cursor("anyone", cursor)


class ForgetsWhatWasSeen(Feed):
    def page(self, user, limit, cursor, seen):
        return super().page(user, limit, cursor, set())


class SinceIncludesItsAnchor(Feed):
    def arrived_after(self, user, seq):
        return super().arrived_after(user, seq - 1)


class SinceUnknownIsEmpty(Feed):
    def new(self, user, since, limit):
        try:
            return super().new(user, since, limit)
        except Refused:
            return [], True


class NeverNotifies(Feed):
    def notify(self, post):
        pass


class NotifiesTwice(Feed):
    def notify(self, post):
        super().notify(post)
        super().notify(post)


class NotifiesEveryone(Feed):
    def notify(self, post):
        for queue in itertools.chain(*self.streams.values()):
            queue.put_nowait(self.event(post))


class NotifiesTheNewestStreamOnly(Feed):
    def notify(self, post):
        kept = self.streams
        self.streams = type(kept)(set, {user: set(list(queues)[:1]) for user, queues in kept.items()})
        super().notify(post)
        self.streams = kept


class ResumesOneTooLate(Feed):
    def opening(self, user, last_event_id):
        since = self.seq_of(last_event_id) if last_event_id else None
        later = self.token(min(since + 1, len(self.arrivals))) if since is not None else last_event_id
        return super().opening(user, later)


class TellsTheHeadFirst(Feed):
    """A listener cut off right after the first block would lose what it missed."""

    def opening(self, user, last_event_id):
        text = super().opening(user, last_event_id)
        retry, _, rest = text.partition("\n\n")
        return f"{retry.partition(chr(10))[0]}\nid: {self.token(len(self.arrivals))}\n\n{rest}"


class SilentAboutGaps(Feed):
    def opening(self, user, last_event_id):
        return super().opening(user, last_event_id if self.seq_of(last_event_id) is not None else "")


class SameIdForAll(Feed):
    def token(self, seq):
        return f"memory.{self.epoch}.0"


class CrashesOnMalformed(Server):
    async def post(self, request):
        try:
            return await super().post(request)
        except Refused as refused:
            return web.Response(status=500, text=refused.detail)


class PlainErrors(Server):
    async def me(self, request):
        try:
            return await super().me(request)
        except Refused as refused:
            return web.Response(status=401, text=refused.detail)


class Html(Server):
    async def stream(self, request):
        return web.Response(text="<p>please enable JavaScript</p>", content_type="text/html")


CAUGHT_BY = {
    AcceptsForgedTokens: "token-forged",
    KeepsUnfollowed: "unfollow-filter",
    BlocksOneWayOnly: "block-filter",
    IgnoresIdempotencyKeys: "post-idempotency-key",
    ForgetsOwnPostsForOneRead: "post-read-your-writes",
    StandsStillInTime: "post-author-order",
    NeverDeletes: "delete-gone",
    LetsAnyoneDelete: "delete-foreign",
    ResurrectsInLookups: "batch-deleted",
    UnorderedPages: "feed-order",
    RepeatsAPost: "feed-order",
    SkipsBetweenPages: "cursor-walk",
    OverlappingPages: "cursor-walk",
    PagesByOffset: "cursor-stable",
    SharesCursors: "cursor-foreign",
    ForgetsWhatWasSeen: "seen-left-out",
    SinceIncludesItsAnchor: "since-arrivals",
    SinceUnknownIsEmpty: "since-unknown",
    NeverNotifies: "stream-event",
    NotifiesTwice: "stream-event",
    NotifiesEveryone: "stream-only-eligible",
    NotifiesTheNewestStreamOnly: "stream-two-of-one-user",
    ResumesOneTooLate: "stream-resume",
    TellsTheHeadFirst: "stream-resume-first-id",
    SilentAboutGaps: "stream-resync",
    SameIdForAll: "stream-ids-rise",
    CrashesOnMalformed: "body-malformed",
    PlainErrors: "token-forged",
    Html: "stream-opens",
}
