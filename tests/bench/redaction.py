"""How well the log's fast redaction finds what it shall, and what it costs.

    python -m tests.bench.redaction [count] [--misses N] [--records N]

Over a generated corpus in six formats and six languages (tests/gateway/log/privacy/corpus.py): recall is the share of
what is there of which nothing is left, precision the share of what is taken out that is there, each with the 95 %
interval of Wilson's score. The corpus is made by those who wrote the patterns: it says what they cover, not how people
write. Then the microseconds of one record on one core, with nothing in it and with something in every candidate.
"""

import argparse
import math
import random
import time
from collections import Counter

import msgspec

from gateway.log.privacy.kinds import KINDS
from gateway.log.privacy.redactor import Count, Redactor
from gateway.log.privacy.texts import redacted
from gateway.log.records import Interaction, encode
from tests.bench.log_throughput import interactions
from tests.gateway.log.privacy.corpus import FORMATS, LANGUAGES, innocent, samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=30, help="of each kind, language and format")
    parser.add_argument("--misses", type=int, default=0, help="print so many of each mistake")
    parser.add_argument("--records", type=int, default=2000)
    arguments = parser.parse_args()
    quality(arguments.count, arguments.misses)
    cost(arguments.records)


def quality(count: int, shown: int) -> None:
    redactor = Redactor(tuple(KINDS))
    found: Counter[tuple[str, str]] = Counter()
    there: Counter[tuple[str, str]] = Counter()
    right: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    mistakes: dict[str, list[str]] = {"missed": [], "wrong": []}
    for sample in [*samples(count), *innocent(count * len(KINDS))]:
        spans = redactor.spans(sample.text)
        for one in sample.spans:
            whole = any(span.start <= one.start and one.end <= span.end for span in spans)
            for group in (one.kind, sample.language, sample.format, "all"):
                there[("", group)] += 1
                found[("", group)] += whole
            if not whole:
                mistakes["missed"].append(sample.text[max(0, one.start - 20) : one.end + 10])
        for span in spans:
            touches = any(span.start < one.end and one.start < span.end for one in sample.spans)
            taken[span.kind] += 1
            right[span.kind] += touches
            if not touches:
                mistakes["wrong"].append(f"{span.kind}: {sample.text[max(0, span.start - 20) : span.end + 10]}")
    print(f"recall, {count} of each kind, language and format (seed 0):")
    for group in (*KINDS, *LANGUAGES, *FORMATS, "all"):
        print(f"  {group:8} {_share(found[('', group)], there[('', group)])}")
    print(f"precision, the same and {count * len(KINDS)} texts without anything of each language and format (seed 1):")
    for kind in KINDS:
        print(f"  {kind:8} {_share(right[kind], taken[kind])}")
    print(f"  {'all':8} {_share(right.total(), taken.total())}")
    for what, texts in mistakes.items():
        for text in texts[:shown]:
            print(f"{what}: {text!r}")


def _share(part: int, whole: int) -> str:
    if not whole:
        return "none"
    share, z = part / whole, 1.96
    centre = (share + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z * math.sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole)) / (1 + z * z / whole)
    return f"{share:.4f} [{max(0.0, centre - half):.4f}, {min(1.0, centre + half):.4f}] of {whole}"


def cost(count: int) -> None:
    clean = [_prose(record) for record in interactions(count, random.Random(0))]
    print(f"cost, {count} records of {len(encode(clean[0]))} bytes (best of 8), median of 5 runs:")
    print(f"  encoding alone            {_microseconds(clean, encode):7.1f} us a record")
    redactor = Redactor(tuple(KINDS))
    print(f"  nothing to redact         {_microseconds(clean, lambda one: redacted(one, redactor, Count())):7.1f}")
    numbers = [_said(record, " ".join(str(number) for number in range(10_007, 10_907, 30))) for record in clean]
    print(f"  full of numbers           {_microseconds(numbers, lambda one: redacted(one, redactor, Count())):7.1f}")
    personal = [_personal(record) for record in clean]
    print(f"  something in each answer  {_microseconds(personal, lambda one: redacted(one, redactor, Count())):7.1f}")


def _microseconds(records: list[Interaction], work: object) -> float:
    assert callable(work)
    times = []
    for _ in range(5):
        before = time.thread_time()
        for record in records:
            work(record)
        times.append((time.thread_time() - before) / len(records) * 1e6)
    return sorted(times)[2]


def _prose(record: Interaction) -> Interaction:
    """Answers of words, as most are."""
    return _said(record, "the quick brown fox jumps over the lazy dog and then goes home to sleep " * 2)


def _personal(record: Interaction) -> Interaction:
    return _said(record, "the quick brown fox, fox@example.com, jumps and then calls (212) 555-0123 to say so " * 2)


def _said(record: Interaction, text: str) -> Interaction:
    candidates = [
        msgspec.structs.replace(one, message={"role": "assistant", "content": f"{text}{one.index}"})
        for one in record.candidates
    ]
    return msgspec.structs.replace(record, candidates=candidates)


if __name__ == "__main__":
    main()
