"""The in-memory feed with one rule broken at a time. Each names the check that must catch it."""

from __future__ import annotations

import copy
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
    def accept(self, author, text, reply_to, key, labels=()):
        return super().accept(author, text, reply_to, None, labels)


class ForgetsOwnPostsForOneRead(Feed):
    def page(self, user, limit, cursor, seen):
        items, following = super().page(user, limit, cursor, seen)
        fresh = {p.id for p in items if p.author == user} - vars(self).setdefault("read_once", set())
        self.read_once |= fresh
        return [p for p in items if p.id not in fresh], following


class StandsStillInTime(Feed):
    def accept(self, author, text, reply_to, key, labels=()):
        first, post = super().accept(author, text, reply_to, key, labels)
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


class HidesFromFollowersOnly(Feed):
    def visible(self, user, post):
        return super().visible(user, post) or (post.id in self.hidden and post.author == user)


class NeverShowsAgain(Feed):
    def hide(self, user, post_id, *, hidden):
        super().hide(user, post_id, hidden=True)


class LetsAnyoneHide(Feed):
    def hide(self, user, post_id, *, hidden):
        super().hide(self.posts[post_id].author, post_id, hidden=hidden)


class ShowsDeletedPosts(Feed):
    def hide(self, user, post_id, *, hidden):
        if not hidden:
            self.deleted.discard(post_id)
        super().hide(user, post_id, hidden=hidden)


class LooksHiddenPostsUp(Feed):
    def readable(self, post_id):
        return super().readable(post_id) or post_id in self.hidden


class LosesLabels(Feed):
    def accept(self, author, text, reply_to, key, labels=()):
        return super().accept(author, text, reply_to, key)


class IgnoresAge(Feed):
    def suits(self, user, post):
        return True


class KeepsOwnLabelledPostsAway(Feed):
    def visible(self, user, post):
        return super().visible(user, post) and self.suits(user, post)


class AuthorsUndoModerations(Feed):
    def hide(self, user, post_id, *, hidden):
        self.moderated.discard(post_id)
        super().hide(user, post_id, hidden=hidden)


class ModerationsStay(Feed):
    def moderate(self, post_id, *, moderated):
        super().moderate(post_id, moderated=True)


class LiftingShowsHiddenPosts(Feed):
    def moderate(self, post_id, *, moderated):
        super().moderate(post_id, moderated=moderated)
        self.hidden.discard(post_id)


class EveryoneOperates(Feed):
    def operator(self, token):
        pass


class ForgetsFlags(Server):
    async def flag(self, request):
        kept = {name: switch.value for name, switch in self.feed.switches.items()}
        answer = await super().flag(request)
        for name, value in kept.items():
            self.feed.switches[name].value = value
        return answer


class SetsFlagsOfTheStart(Feed):
    def switch(self, name):
        return self.switches[name] if name in self.switches else super().switch(name)


class ForgetsTheRestOfAProfile(Server):
    async def change_me(self, request):
        self.feed.profiles.pop(self.user(request), None)
        return await super().change_me(request)


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


class Regional(Feed):
    """Two regions that share everything at once, but what `stays` where it was done."""

    stays: tuple[str, ...] = ()

    def elsewhere(self):
        """The other region."""
        other = copy.copy(self)
        for name in self.stays:
            setattr(other, name, copy.copy(getattr(self, name)))
        return other


class FollowsStayInTheirRegion(Regional):
    stays = ("following", "followers")


class BlocksStayInTheirRegion(Regional):
    stays = ("blocks",)


class DeletesStayInTheirRegion(Regional):
    stays = ("deleted",)


class HidesStayInTheirRegion(Regional):
    stays = ("hidden",)


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
    HidesFromFollowersOnly: "hide-gone",
    NeverShowsAgain: "hide-shown-again",
    LetsAnyoneHide: "hide-foreign",
    ShowsDeletedPosts: "hide-deleted",
    LooksHiddenPostsUp: "hide-lookup",
    LosesLabels: "labels-kept",
    IgnoresAge: "labels-filter",
    KeepsOwnLabelledPostsAway: "labels-own",
    ForgetsTheRestOfAProfile: "profile-change",
    AuthorsUndoModerations: "moderate-author",
    ModerationsStay: "moderate-lifted",
    LiftingShowsHiddenPosts: "moderate-lifted",
    EveryoneOperates: "moderate-token",
    ForgetsFlags: "flags-set",
    SetsFlagsOfTheStart: "flags-at-start",
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
CAUGHT_IN_TWO_REGIONS_BY = {
    FollowsStayInTheirRegion: "region-follow",
    BlocksStayInTheirRegion: "region-block",
    DeletesStayInTheirRegion: "region-delete",
    HidesStayInTheirRegion: "region-hide",
}
