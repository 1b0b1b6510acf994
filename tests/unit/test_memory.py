"""Buffers for parts: used again, given back to the system, and never more of them than in all were in use."""

from __future__ import annotations

import mmap
import os

from dtool_ecs_flows.memory import Buffers

USUAL = 16 * 1024


def memory_of(buffer: memoryview) -> mmap.mmap:
    assert isinstance(buffer.obj, mmap.mmap)
    return buffer.obj


def test_a_buffer_that_was_given_back_is_used_again() -> None:
    """The next part is read into memory that the process has already."""
    buffers = Buffers(USUAL)
    first, second = buffers.take(USUAL), buffers.take(USUAL)
    assert memory_of(first) is not memory_of(second)
    buffers.give(first)
    assert memory_of(buffers.take(USUAL)) is memory_of(first)


def test_a_buffer_has_the_length_that_was_asked_for() -> None:
    """The last part of an item too, and that of an item which is empty."""
    buffers = Buffers(USUAL)
    for length in (0, 1, USUAL - 1, USUAL, USUAL + 1, 5 * USUAL):
        buffer = buffers.take(length)
        buffer[:] = bytes(length)
        assert len(buffer) == length
        buffers.give(buffer)


def test_what_waits_to_be_used_again_makes_room_for_others() -> None:
    """Free buffers and those in use are together no more than what was in use at once."""
    buffers = Buffers(USUAL)
    for each in [buffers.take(USUAL) for _ in range(8)]:
        buffers.give(each)
    odd = [buffers.take(USUAL - 1) for _ in range(3)]
    assert len(buffers._free) == 5
    for each in odd:
        buffers.give(each)
    assert len(buffers._free) == 5
    buffers.take(4 * USUAL + 1)
    assert not buffers._free


def test_memory_of_others_is_not_taken() -> None:
    """A reader may return what it likes: only buffers of ours are used again."""
    buffers = Buffers(USUAL)
    for other in (bytes(USUAL), bytearray(USUAL), memoryview(bytearray(USUAL))):
        buffers.give(other)
    assert not buffers._free


def test_free_buffers_make_room_for_memory_of_another_kind() -> None:
    """What small items take comes from what is left, not on top of it."""
    buffers = Buffers(USUAL)
    for each in [buffers.take(USUAL) for _ in range(8)]:
        buffers.give(each)
    for size, kept in ((9 * USUAL, 8), (4 * USUAL - 1, 4), (1, 1), (0, 0)):
        buffers.keep(size)
        assert len(buffers._free) == kept


def test_a_forked_child_has_buffers_of_its_own() -> None:
    """What it writes is not in what its parent sends."""
    buffer = Buffers(USUAL).take(USUAL)
    buffer[:] = b"p" * USUAL
    child = os.fork()
    if not child:
        buffer[:] = b"c" * USUAL
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert buffer == b"p" * USUAL
