from hypothesis import given
from hypothesis import strategies as st

from gateway.log.frames import Entry, Kind, frame, parse

PAYLOADS = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=60)), max_size=8)


def written(records: list[tuple[Kind, bytes]]) -> bytes:
    return b"".join(frame(kind, payload, 12.5) for kind, payload in records)


@given(PAYLOADS)
def test_what_was_framed_is_parsed(records: list[tuple[Kind, bytes]]) -> None:
    data = written(records)
    parsed = parse(data, final=True)
    assert parsed.entries == [Entry(kind, payload, 12.5) for kind, payload in records]
    assert (parsed.consumed, parsed.torn) == (len(data), 0)


@given(PAYLOADS.filter(bool), st.data())
def test_a_torn_tail_costs_the_last_record_only(records: list[tuple[Kind, bytes]], data: st.DataObject) -> None:
    whole = written(records)
    last = len(frame(*records[-1], 0.0))
    cut = whole[: data.draw(st.integers(len(whole) - last + 1, len(whole) - 1))]
    parsed = parse(cut, final=True)
    assert [entry.payload for entry in parsed.entries] == [payload for _, payload in records[:-1]]
    assert (parsed.consumed, parsed.torn) == (len(cut), 1)


@given(PAYLOADS.filter(bool), st.data())
def test_an_unfinished_frame_waits_for_more_bytes(records: list[tuple[Kind, bytes]], data: st.DataObject) -> None:
    whole = written(records)
    end = data.draw(st.integers(0, len(whole)))
    first = parse(whole[:end], final=False)
    rest = parse(whole[first.consumed :], final=True)
    assert first.torn == 0
    assert [entry.payload for entry in first.entries + rest.entries] == [payload for _, payload in records]


@given(st.binary(max_size=400))
def test_no_bytes_at_all_crash_the_reader(data: bytes) -> None:
    parsed = parse(data, final=True)
    assert parsed.consumed == len(data)


@given(st.integers(0, 20 + 5), st.integers(1, 255))
def test_a_damaged_byte_costs_its_own_record_only(offset: int, change: int) -> None:
    data = bytearray(written([(Kind.INTERACTION, b"first"), (Kind.FEEDBACK, b"second"), (Kind.FEEDBACK, b"third")]))
    data[offset] ^= change
    parsed = parse(bytes(data), final=True)
    assert [entry.payload for entry in parsed.entries] == [b"second", b"third"]
    assert parsed.torn == 1


def test_a_limit_leaves_the_rest_for_the_next_read() -> None:
    data = written([(Kind.INTERACTION, b"a"), (Kind.INTERACTION, b"b")])
    first = parse(data, final=True, limit=1)
    assert [entry.payload for entry in first.entries] == [b"a"]
    assert [entry.payload for entry in parse(data[first.consumed :], final=True).entries] == [b"b"]
