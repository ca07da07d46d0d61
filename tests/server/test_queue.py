"""The line: who is next, with whom, and what becomes of those who leave or come too late."""

import threading
import time
from concurrent.futures import CancelledError

import pytest

from limner.server.queue import Abandoned, Closed, Full, Queue

# For what must happen, on a machine that may stall.
SOON = 60.0


class Work:
    """Answers an order with its double, one batch at a time, each when it is let."""

    def __init__(self):
        self.batches = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def __call__(self, orders, check):
        self.batches.append(list(orders))
        self.begun.release()
        while not self.go.acquire(timeout=0.01):
            check()
        if "broken" in orders:
            raise RuntimeError("broken")
        return [2 * order for order in orders]


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def line(work):
    line = Queue(work, waiting=6, together=4, name="test")
    yield line
    work.go.release(100)
    line.close()
    line.join(SOON)


def put(line, order, key="k", pictures=1, caller="one"):
    return line.put(order, key=key, pictures=pictures, caller=caller)


def begun(work):
    assert work.begun.acquire(timeout=SOON)


def test_those_that_want_the_same_go_together_and_the_oldest_goes_first(line, work):
    jobs = [put(line, "a")]
    begun(work)
    # Meanwhile these come.
    jobs += [put(line, o, k) for o, k in (("b", "x"), ("c", "y"), ("d", "x"), ("e", "y"))]
    work.go.release(3)
    assert [job.result.result(SOON) for job in jobs] == ["aa", "bb", "cc", "dd", "ee"]
    assert work.batches == [["a"], ["b", "d"], ["c", "e"]]


def test_a_batch_has_a_bound_and_none_is_overtaken_by_its_like(line, work):
    put(line, "a")
    begun(work)
    jobs = [put(line, o, pictures=n) for o, n in (("b", 3), ("c", 2), ("d", 1))]
    work.go.release(3)
    for job in jobs:
        job.result.result(SOON)
    # "d" would have fitted beside "b", and is not let in before "c".
    assert work.batches == [["a"], ["b"], ["c", "d"]]


def test_more_than_a_batch_holds_goes_alone(line, work):
    job = put(line, "a", pictures=10)
    work.go.release()
    assert job.result.result(SOON) == "aa"


def test_the_line_is_bounded_and_says_when_to_come_again(line, work):
    put(line, "a")
    begun(work)
    for number in range(6):
        put(line, str(number))
    with pytest.raises(Full) as full:
        put(line, "too much")
    assert 1 <= full.value.after <= 60
    assert line.waiting == 6
    assert line.working == 1


def test_callers_take_turns_however_much_one_of_them_sends(line, work):
    jobs = [put(line, "a")]
    begun(work)
    # Each wants something else, so each goes alone.
    jobs += [put(line, f"m{number}", key=f"m{number}", caller="many") for number in range(3)]
    jobs += [put(line, f"f{number}", key=f"f{number}", caller="few") for number in range(2)]
    work.go.release(10)
    for job in jobs:
        job.result.result(SOON)
    assert [order for (order,) in work.batches] == ["a", "m0", "f0", "m1", "f1", "m2"]


def test_a_batch_is_shared_by_turns_and_sharing_it_costs_no_turn(line, work):
    jobs = [put(line, "a")]
    begun(work)
    jobs += [put(line, f"m{number}", caller="many", pictures=2) for number in range(3)]
    # The second caller's first job wants something else, and its second the same as the others.
    jobs += [put(line, "x", key="other", caller="few"), put(line, "f", caller="few", pictures=2)]
    work.go.release(10)
    for job in jobs:
        job.result.result(SOON)
    # "f" is let in before the third of many, and "x" before it as well.
    assert work.batches == [["a"], ["m0", "m1"], ["x"], ["m2", "f"]]


def test_a_line_that_one_has_filled_is_open_to_another(line, work):
    put(line, "a")
    begun(work)
    many = [put(line, f"m{number}", caller="many") for number in range(6)]
    first = put(line, "f0", caller="few")
    second = put(line, "f1", caller="few")
    # The youngest of many had to go, and is told when to come again.
    for job in many[4:]:
        with pytest.raises(Full) as full:
            job.result.result(SOON)
        assert 1 <= full.value.after <= 60
    third = put(line, "g", caller="third")
    assert line.waiting == 6
    # Now the three have 3, 2 and 1: many is the greediest, and gives way only to who has two fewer.
    with pytest.raises(Full):
        put(line, "m6", caller="many")
    with pytest.raises(Full):
        put(line, "f2", caller="few")
    work.go.release(10)
    for job in [*many[:3], first, second, third]:
        assert job.result.result(SOON)


def test_nothing_is_kept_of_callers_that_are_gone(line, work):
    first = put(line, "a")
    begun(work)
    for number in range(50):
        line.leave(put(line, "b", caller=number))
    assert line._turns == []
    last = put(line, "c", caller="last")
    work.go.release(10)
    assert first.result.result(SOON)
    assert last.result.result(SOON)
    assert line._turns == []


def test_who_leaves_frees_a_place_and_is_not_painted(line, work):
    put(line, "a")
    begun(work)
    jobs = [put(line, str(number)) for number in range(6)]
    line.leave(jobs[2])
    last = put(line, "in its place")
    with pytest.raises(CancelledError):
        jobs[2].result.result(SOON)
    work.go.release(10)
    assert last.result.result(SOON)
    assert "2" not in [order for batch in work.batches for order in batch]


def test_painting_stops_when_the_last_has_left(line, work):
    first = put(line, "a")
    begun(work)
    line.leave(first)
    with pytest.raises(Abandoned):
        first.result.result(SOON)
    # The next is begun though nobody let the first one finish.
    put(line, "b")
    begun(work)


def test_painting_goes_on_while_anybody_waits(line, work):
    put(line, "a")
    begun(work)
    leaves, stays = put(line, "b"), put(line, "c")
    work.go.release()
    begun(work)
    line.leave(leaves)
    time.sleep(0.1)
    work.go.release()
    assert stays.result.result(SOON) == "cc"


def test_one_that_breaks_spoils_no_other(line, work):
    put(line, "a")
    begun(work)
    good, bad, fine = put(line, "b"), put(line, "broken"), put(line, "c")
    work.go.release(10)
    assert good.result.result(SOON) == "bb"
    assert fine.result.result(SOON) == "cc"
    with pytest.raises(RuntimeError, match="broken"):
        bad.result.result(SOON)
    assert put(line, "after").result.result(SOON) == "afterafter"


def test_a_result_that_somebody_cancelled_stops_nothing(line, work):
    put(line, "a")
    begun(work)
    put(line, "b").result.cancel()
    after = put(line, "c")
    work.go.release(10)
    assert after.result.result(SOON) == "cc"


def test_closing_finishes_what_is_at_work_and_begins_nothing_more(line, work):
    painted = put(line, "a")
    begun(work)
    waits = put(line, "b")
    line.close()
    with pytest.raises(Closed):
        waits.result.result(SOON)
    with pytest.raises(Closed):
        put(line, "c")
    work.go.release()
    assert painted.result.result(SOON) == "aa"
    line.join(SOON)
    assert work.batches == [["a"]]


def test_no_answer_is_anothers_when_many_ask_at_once():
    """Sixteen threads, each with orders of its own, of few keys: every one gets the double of its own."""
    seen = []

    def work(orders, check):
        check()
        seen.append(len(orders))
        time.sleep(0.001)
        return [2 * order for order in orders]

    line = Queue(work, waiting=64, together=8, name="many")
    wrong = []

    def client(who):
        for turn in range(8):
            order = f"{who}:{turn};"
            if put(line, order, key=turn % 2).result.result(SOON) != 2 * order:
                wrong.append(order)

    threads = [threading.Thread(target=client, args=(who,)) for who in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    line.close()
    line.join(SOON)
    assert not wrong
    assert sum(seen) == 128
    assert max(seen) > 1
