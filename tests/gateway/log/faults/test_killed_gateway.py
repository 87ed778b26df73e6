"""A gateway process that is killed while it logs."""

from pathlib import Path

from tests.bench.log_kill import kill_one


async def test_a_killed_gateway_loses_its_newest_records_at_most(tmp_path: Path) -> None:
    killed = await kill_one(tmp_path, per_s=500, after_s=1.0)
    assert len(killed.written) > 0 and killed.written == list(range(len(killed.written)))
    assert killed.lost >= 0
