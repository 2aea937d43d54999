"""Messages between processes: what is sent arrives, however the stream cuts it; what is none is refused."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subtone.speech.wire import Broken, receive, receive_array, send

TEXT = st.text(
    st.characters(exclude_categories=()), max_size=20
)  # lone surrogates included, as in file names


class Dribble(io.BytesIO):
    """A pipe that takes and gives a few bytes at a time."""

    step = 3

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        return super().write(bytes(data[: self.step]))

    def readinto(self, data: memoryview) -> int:  # type: ignore[override]
        return super().readinto(data[: self.step])


@given(
    header=st.dictionaries(TEXT, st.none() | st.integers() | TEXT | st.booleans(), max_size=5),
    samples=st.lists(st.floats(width=32, allow_nan=False), max_size=20),
    starts=st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    step=st.integers(1, 50),
)
def test_what_is_sent_arrives_bit_for_bit(
    header: dict[str, object], samples: list[float], starts: list[int], step: int
) -> None:
    pipe = Dribble()
    pipe.step = step
    wave, numbers = np.array(samples, dtype=np.float32), np.array(starts, dtype=np.int64)
    send(pipe, header, numbers, wave)
    send(pipe, {"last": True})
    pipe.seek(0)
    found, following = receive(pipe)
    assert found == header
    assert following == numbers.nbytes + wave.nbytes
    assert np.array_equal(receive_array(pipe, len(numbers), np.int64), numbers)
    assert np.array_equal(receive_array(pipe, len(wave), np.float32), wave)
    assert receive(pipe) == ({"last": True}, 0)
    with pytest.raises(Broken, match="ended"):
        receive(pipe)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"Illegal Audio-MPEG-Header",
        struct.pack("<IQ", 1 << 31, 0),
        struct.pack("<IQ", 9, 0) + b"{",
        struct.pack("<IQ", 2, 0) + b"[]",
        struct.pack("<IQ", 2, 0) + b"no",
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(Broken):
        receive(io.BytesIO(data))


def test_a_header_too_large_to_be_one_is_not_sent() -> None:
    with pytest.raises(ValueError, match="numbers belong behind it"):
        send(io.BytesIO(), {"segments": list(range(100_000))})
