from __future__ import annotations

from made_history import ns

from harness.judge.evidence import Moment, follows, story


def test_moments_in_time_order_with_the_faults_between_them(made):
    h = made({1: [7]})
    h.fault(30.0, 33.0)
    h.fault(50.0, 51.0, kind="pause")
    told = story(
        h.case(),
        Moment(ns(41.2), "absent from the final walk"),
        follows(93, 17, ns(2.1)),
        Moment(ns(12.031), "post p acknowledged to user 17 in us-east"),
    )
    assert told == (
        "user 93 follows user 17 since 2.100 s; post p acknowledged to user 17 in us-east at 12.031 s; "
        "absent from the final walk at 41.200 s; kill of us-east.memcached 30.0-33.0 s [calm]"
    )


def test_what_was_before_the_run_spans_nothing(made):
    h = made({1: [7]})
    h.fault(1.0, 2.0)
    told = story(h.case(), Moment(-1, "post old there"), Moment(ns(5.0), "missing"))
    assert told == "post old there before the run; missing at 5.000 s [calm]"


def test_a_fault_that_was_never_undone(made):
    h = made({1: [7]})
    h.fault(1.0, None)
    assert story(h.case(), Moment(ns(5.0), "missing")).endswith("kill of us-east.memcached 1.0-the end [calm]")


def test_a_fault_that_never_began_is_not_told(made):
    h = made({1: [7]})
    h.refused(1.0)
    assert story(h.case(), Moment(ns(5.0), "missing")) == "missing at 5.000 s [calm]"


def test_phases_from_the_first_to_the_last(made):
    h = made({1: [7]})
    h.baseline = 30.0
    case = h.case()
    assert story(case, Moment(ns(-1.0), "a"), Moment(ns(31.0), "b")).endswith("[warmup .. after]")
    assert story(case, Moment(ns(99.0), "far out")) == "far out at 99.000 s"


def test_moments_alone_before_the_run(made):
    assert story(made({1: [7]}).case(), Moment(-1, "post old there")) == "post old there before the run"


def test_moments_of_one_time_keep_their_order(made):
    told = story(made({1: [7]}).case(), Moment(ns(1.0), "the first"), Moment(ns(1.0), "and again"))
    assert told.startswith("the first at 1.000 s; and again")
