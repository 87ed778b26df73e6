"""Why a part ended: the most telling line of its log."""

import re

PREFIX = re.compile(r"^(\([\w.-]+ pid=\d+\)\s*)?((ERROR|CRITICAL|WARNING|INFO)\s+\d\d-\d\d [\d:]+\s+\[[^\]]*\]\s*)?")
ERROR = re.compile(
    r"^\s*([\w.]*(Error|Exception|Interrupt|Exit)\b.*|.*\b(error|fatal|cannot|refused|denied|no such)\b.*)", re.I
)
RAISED = re.compile(r"^[\w.]*(Error|Exception)\s*:\s*\S")
# They only say that something else failed before.
ECHOES = re.compile(r"root cause|Engine core initialization failed|EngineDeadError|WorkerProc initialization failed")


def telling_line(lines: list[str]) -> str:
    """The line a person should read first: the last error raised, else the last that speaks of one, else the last."""
    plain = [text for line in lines if (text := PREFIX.sub("", line).strip()) and not ECHOES.search(text)]
    for pattern in (RAISED, ERROR):
        for text in reversed(plain):
            if pattern.match(text):
                return text[:300]
    return plain[-1][:300] if plain else "it wrote nothing"
