import logging

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.workers.engine_metrics import UnknownMetrics, UnknownMetricsLog, parse, read_engine_load
from gateway.workers.load import EngineLoad
from tests.fakes import FakeWorker, serve

# As vLLM 0.32 on a CPU writes them (2026-11), label values shortened.
PAGE = """\
# HELP python_info Python platform information
# TYPE python_info gauge
python_info{implementation="CPython",major="3"} 1.0
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="policy"} 8.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="policy"} 3.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="policy",reason="capacity"} 3.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="policy",reason="deferred"} 40.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="policy"} 0.25
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="128",engine="0",kv_cache_size_tokens="1048576",num_gpu_blocks="8192"} 1.0
"""
LOAD = EngineLoad(8.0, 3.0, 0.25, 1_048_576)


def test_the_load_is_read_from_a_page_of_vllm_0_32() -> None:
    assert read_engine_load(PAGE, "0.32.0") == LOAD


@pytest.mark.parametrize("version", ["0.8.5", "0.8.5.post1", "v0.4.0"])
def test_names_that_vllm_has_changed_since_are_known_by_its_version(version: str) -> None:
    page = PAGE.replace("kv_cache_usage_perc", "gpu_cache_usage_perc")
    assert read_engine_load(page, version) == LOAD


@pytest.mark.parametrize("version", [None, "0.1.dev1+g1234567", "nightly", "0.32.0rc1+cpu", "99.0"])
def test_a_version_that_tells_little_does_not_keep_the_load_from_being_read(version: str | None) -> None:
    assert read_engine_load(PAGE, version) == LOAD
    assert read_engine_load(PAGE.replace("kv_cache_usage_perc", "gpu_cache_usage_perc"), version) == LOAD


def test_where_a_version_shows_both_names_the_newer_one_counts() -> None:
    assert read_engine_load(PAGE + 'vllm:gpu_cache_usage_perc{engine="0"} 0.0\n', "0.10.2") == LOAD


def test_a_name_that_is_gone_is_told_and_never_a_zero() -> None:
    found = read_engine_load(PAGE.replace("num_requests_running", "requests_running"), "0.40.0")
    assert found == UnknownMetrics(("vllm:num_requests_running",), None)


def test_what_is_left_of_a_page_is_used_and_the_rest_told() -> None:
    found = read_engine_load(PAGE.replace("kv_cache_usage_perc", "kv_usage"), "0.40.0")
    assert found == UnknownMetrics(("vllm:kv_cache_usage_perc",), EngineLoad(8.0, 3.0, None, 1_048_576))


def test_the_page_of_another_server_is_unknown() -> None:
    for page in ("", "<html>", 'sglang:num_running_reqs{model="policy"} 2.0\n'):
        found = read_engine_load(page, None)
        assert isinstance(found, UnknownMetrics) and found.load is None and len(found.missing) == 4


def test_the_engines_of_one_worker_are_added_up_and_their_kv_usage_averaged() -> None:
    second = PAGE.replace('engine="0"', 'engine="1"').replace("} 8.0", "} 2.0").replace("} 0.25", "} 0.75")
    assert read_engine_load(PAGE + second, "0.32.0") == EngineLoad(10.0, 6.0, 0.5, 2 * 1_048_576)


def test_a_version_that_does_not_say_its_tokens_has_them_in_blocks_of_all_engines() -> None:
    old = PAGE.replace(',kv_cache_size_tokens="1048576"', "").replace("128", "16")
    second = 'vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="8192"} 1.0\n'
    for page in (old, old + second):
        found = read_engine_load(page, "0.8.0")
        assert isinstance(found, EngineLoad) and found.kv_tokens == 16 * 8192


def test_a_cache_that_has_no_size_yet_says_nothing_of_its_tokens() -> None:
    page = PAGE.replace('"1048576"', '"None"').replace('"8192"', '"None"')
    assert read_engine_load(page, "0.32.0") == EngineLoad(8.0, 3.0, 0.25, None)


def test_values_that_are_no_numbers_are_told_and_not_counted() -> None:
    found = read_engine_load(PAGE.replace("} 8.0", "} NaN").replace("} 3.0\n# TYPE", "}\n# TYPE"), "0.32.0")
    assert found == UnknownMetrics(("vllm:num_requests_running", "vllm:num_requests_waiting"), None)


@given(
    model=st.text(),
    value=st.floats(allow_nan=False, allow_infinity=False),
    stamp=st.sampled_from(["", " 1395066363000"]),
)
def test_any_name_of_a_model_is_read_over(model: str, value: float, stamp: str) -> None:
    escaped = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    page = f'# TYPE m gauge\nm{{engine="0",model_name="{escaped}",size="7"}} {value!r}{stamp}\nm_total 9\n'
    [sample] = parse(page, "m")
    assert sample.value == value and sample.label("size") == "7"


def test_a_worker_is_warned_of_once_a_version(caplog: pytest.LogCaptureFixture) -> None:
    told = UnknownMetricsLog()
    nothing, little = UnknownMetrics(("a", "b")), UnknownMetrics(("b",), EngineLoad(1, 0))
    with caplog.at_level(logging.WARNING):
        for worker, version, unknown in [
            ("w-1", "1", nothing),
            ("w-1", "1", nothing),
            ("w-2", "1", nothing),
            ("w-1", "2", little),
        ]:
            told.tell(worker, version, unknown)
    assert [record.getMessage() for record in caplog.records] == [
        "worker w-1 (vLLM 1) has no a and no b in /metrics: its load is judged by our own requests alone (was it "
        "started with --disable-log-stats?)",
        "worker w-2 (vLLM 1) has no a and no b in /metrics: its load is judged by our own requests alone (was it "
        "started with --disable-log-stats?)",
        "worker w-1 (vLLM 2) has no b in /metrics: its load is read without",
    ]


async def test_the_fake_workers_page_is_one_that_we_read() -> None:
    fake = FakeWorker(running_elsewhere=5, waiting=2, kv_usage=0.5, kv_blocks=100)
    async with serve(fake), aiohttp.ClientSession(fake.url) as session:
        async with session.get("/metrics") as reply:
            page = await reply.text()
        async with session.get("/version") as reply:
            version = (await reply.json())["version"]
    assert read_engine_load(page, version) == EngineLoad(5.0, 2.0, 0.5, 1600)
