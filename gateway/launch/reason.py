"""Why a part ended: the most telling line of its log, and the last ones without the frames of tracebacks."""

import re

PREFIX = re.compile(r"^(\([\w.-]+ pid=\d+\)\s*)?((ERROR|CRITICAL|WARNING|INFO)\s+\d\d-\d\d [\d:]+\s+\[[^\]]*\] ?)?")
ERROR = re.compile(
    r"^\s*([\w.]*(Error|Exception|Interrupt|Exit)\b.*|.*\b(error|fatal|cannot|refused|denied|no such)\b.*)", re.I
)
RAISED = re.compile(r"^[\w.]*(Error|Exception)\s*:\s*\S")
# Its next line says what.
HEADING = re.compile(r"validation errors? for \w+$")
# They only say that something else failed before.
ECHOES = re.compile(r"root cause|Engine core initialization failed|EngineDeadError|WorkerProc initialization failed")


def telling_line(lines: list[str]) -> str:
    """The line a person should read first: the last error raised, else the last that speaks of one, else the last."""
    plain = [text for line in lines if (text := PREFIX.sub("", line).strip()) and not ECHOES.search(text)]
    for pattern in (RAISED, ERROR):
        for index in reversed(range(len(plain))):
            if pattern.match(plain[index]):
                detail = plain[index + 1 : index + 2] if HEADING.search(plain[index]) else []
                return ": ".join([plain[index], *detail])[:300]
    return plain[-1][:300] if plain else "it wrote nothing"


def without_frames(lines: list[str]) -> list[str]:
    """A log's lines without tracebacks' frames and the code quoted under them: the file has those."""
    kept: list[str] = []
    quoted = False
    for line in lines:
        bare = PREFIX.sub("", line)
        text = bare.strip()
        frame = text.startswith(("Traceback (most recent call last)", 'File "'))
        # Under a frame stands its line of code, indented further than the frame, perhaps with a row of marks.
        if frame or (quoted and bare.startswith("    ")):
            quoted = True
            continue
        quoted = False
        kept.append(line)
    return kept
