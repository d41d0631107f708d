"""Deadlines: one timer for all of a loop, and the manners of `asyncio.timeout`."""

import asyncio
import contextlib
import math
import threading

import pytest

from evals_async._clock import ALARMS, SYSTEM_CLOCK, Alarm, Deadline


SOON = 0.01  # seconds
NEVER = 3600.0


def alarm() -> Alarm:
    found = ALARMS.latest
    assert found is not None
    return found


async def asleep(seconds: float, began: asyncio.Event | None = None) -> str:
    """What becomes of somebody who would wait for ever."""
    try:
        with SYSTEM_CLOCK.timeout(seconds):
            if began is not None:
                began.set()
            await asyncio.Event().wait()
    except TimeoutError:
        return "late"
    return "awake"


async def test_a_block_ends_in_time() -> None:
    """The end of the time is a `TimeoutError`, and leaves the task as it was."""
    assert "late" == await asleep(SOON)
    task = asyncio.current_task()
    assert task is not None
    assert 0 == task.cancelling()
    await asyncio.sleep(0)  # nothing comes after it


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_time_that_is_up_ends_the_first_wait(seconds: float) -> None:
    """A deadline that has passed lets the block begin, as asyncio's does, and ends it where it waits."""
    assert "late" == await asleep(seconds)


async def test_many_deadlines_have_one_timer() -> None:
    """The timer is set to the earliest; those that were called off leave nothing behind."""
    doomed = [asyncio.create_task(asleep(NEVER + number)) for number in range(50)]
    quick = [asyncio.create_task(asleep(SOON * (number % 3 + 1))) for number in range(50)]
    endless = asyncio.create_task(asleep(math.inf))
    await asyncio.sleep(0)
    assert 101 == len(alarm().waiting)
    assert ["late"] * 50 == await asyncio.gather(*quick)
    assert {task.done() for task in doomed} == {False}
    assert alarm().rings == pytest.approx(alarm().loop.time() + NEVER, abs=5)
    for task in (*doomed, endless):
        task.cancel()
    assert {asyncio.CancelledError} == set(map(type, await asyncio.gather(*doomed, endless, return_exceptions=True)))
    assert not alarm().waiting


async def test_deadlines_that_end_together_ring_in_the_order_of_their_ends() -> None:
    """A late loop finds several of them: the order does not depend on how they are stored."""
    ends = list[float]()

    async def wait(seconds: float) -> None:
        deadline = Deadline(seconds)
        with contextlib.suppress(TimeoutError), deadline:
            await asyncio.Event().wait()
        ends.append(deadline.end)

    waiting = [asyncio.create_task(wait(SOON * (1 - number / 25))) for number in range(20)]
    await asyncio.sleep(0)
    late = asyncio.get_running_loop().time() + 2 * SOON
    while asyncio.get_running_loop().time() < late:
        pass
    await asyncio.gather(*waiting)
    assert 20 == len(ends)
    assert sorted(ends) == ends


async def test_an_earlier_deadline_moves_the_timer() -> None:
    """One that ends before all others is not late because the timer was set for them."""
    began = asyncio.Event()
    patient = asyncio.create_task(asleep(NEVER, began))
    await began.wait()
    assert "late" == await asleep(SOON)
    assert not patient.done()
    patient.cancel()


async def test_within_one_another() -> None:
    """The inner deadline ends the inner block alone, the outer one both."""
    with Deadline(NEVER):
        assert "late" == await asleep(SOON)
    with pytest.raises(TimeoutError), Deadline(SOON):
        await asleep(NEVER)


async def test_a_cancellation_is_not_the_deadlines() -> None:
    """Who cancels the task sees it cancelled, also when the time ends at the same moment."""
    began = asyncio.Event()
    task = asyncio.create_task(asleep(NEVER, began))
    await began.wait()
    waiting = next(iter(alarm().waiting))
    waiting.end = 0.0
    task.cancel()
    alarm().ring()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_other_errors_pass() -> None:
    """An error of the block comes through as it is."""
    with pytest.raises(KeyError), Deadline(NEVER):
        raise KeyError
    assert not alarm().waiting


def test_loops_and_threads_have_alarms_of_their_own() -> None:
    """One loop after the other, and two at once in two threads."""
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(asyncio.run(asleep(SOON)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert ["late"] * 2 == [asyncio.run(asleep(SOON)) for _ in range(2)]
    for thread in threads:
        thread.join()
    assert ["late"] * 2 == found


async def test_no_task() -> None:
    """A deadline has nobody to end where no task runs."""
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def outside() -> None:
        try:
            with Deadline(1.0):
                told.set_result("entered")
        except RuntimeError as error:
            told.set_result(str(error))

    asyncio.get_running_loop().call_soon(outside)
    assert "a deadline works inside a task only" in await told
