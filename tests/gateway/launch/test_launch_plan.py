"""What is started for a configuration, and how."""

from pathlib import Path
from typing import Any

import pytest

from gateway.access.cache import cache_file, save
from gateway.access.keys import make_key
from gateway.access.snapshot import Snapshot
from gateway.config import Config, PolicyConfig, load, parse
from gateway.errors import ConfigError, StartError
from gateway.launch import preflight
from gateway.launch.choices import Choices, chosen
from gateway.launch.demo import demo_config, models_config, public_name
from gateway.launch.machine import Machine
from gateway.launch.models import problem_of
from gateway.launch.parts import Part, Plan, plan, worker_part
from gateway.launch.up import only_one, prepare, ready_message
from scorers.scorer_settings import JudgeConfig

CPU = Machine(cores=2, memory_gib=20, gpu=False)
GPU = Machine(cores=16, memory_gib=100, gpu=True)


def planned(config: Config, machine: Machine = CPU) -> Plan:
    return plan(config, machine, "/usr/bin/redis-server")


def part_of(todo: Plan, name: str) -> Part:
    return next(part for part in todo.parts if part.name == name)


def at(config: Config, folder: Path) -> Config:
    return config.model_copy(update={"data_dir": folder})


def test_the_demo_starts_four_parts_with_every_address_filled_in(tmp_path: Path) -> None:
    todo = planned(at(demo_config(), tmp_path))
    assert [part.name for part in todo.parts] == ["redis", "vllm-demo-policy", "scorers", "gateway"]
    assert todo.config.redis.url == "redis://127.0.0.1:8379/0"
    assert todo.config.policies["demo-policy"].workers[0].url == "http://127.0.0.1:8101"
    assert {one.url for one in todo.config.scorers.values()} == {"http://127.0.0.1:8201"}
    assert part_of(todo, "gateway").after == ("redis",)


def test_the_run_files_are_read_back_and_the_scorer_servers_names_what_it_must_serve(tmp_path: Path) -> None:
    todo = planned(at(demo_config(), tmp_path))
    prepare(todo)
    assert load(tmp_path / "run.yaml") == todo.config
    own = load(tmp_path / "run.scorers.yaml")
    assert {name: one.url for name, one in own.scorers.items()} == {"reward": None, "safety": None}
    assert (tmp_path / "run.yaml").stat().st_mode & 0o077 == 0


def test_the_files_that_a_scorer_names_are_found_from_any_folder(tmp_path: Path) -> None:
    vllm = {"url": "https://gpu:8000", "ca_file": "ca.pem"}
    judge = {"kind": "judge", "model": "a/b", "constitution": "ours.yaml", "calibration": "c.json", "vllm": vllm}
    config = parse({"data_dir": str(tmp_path), "scorers": {"judge": judge}})
    prepare(planned(config))
    found = load(tmp_path / "run.scorers.yaml").scorers["judge"]
    assert isinstance(found, JudgeConfig) and found.vllm
    assert [found.constitution, found.calibration, found.vllm.ca_file] == [
        Path(name).absolute() for name in ("ours.yaml", "c.json", "ca.pem")
    ]


def test_addresses_that_are_given_are_asked_for_and_not_started(tmp_path: Path) -> None:
    config = parse(
        {
            "data_dir": str(tmp_path),
            "redis": {"url": "redis://:secret@10.0.0.1:6379/0"},
            "policies": {"p": {"model": "org/p", "workers": [{"url": "http://10.0.0.2:8000"}]}},
            "scorers": {
                "reward": {"kind": "reward", "model": "org/r", "url": "http://10.0.0.3:8201"},
                "safety": {"kind": "safety", "model": "org/s"},
            },
            "profiles": {"default": {}},
            "models": {"m": {"policy": "p"}},
        }
    )
    todo = plan(config, CPU, None)
    assert [part.name for part in todo.parts] == ["scorers", "gateway"]
    assert [one.address for one in todo.given] == [
        "redis://***@10.0.0.1:6379/0",
        "http://10.0.0.2:8000",
        "http://10.0.0.3:8201",
    ]
    assert todo.scorer_config is not None and list(todo.scorer_config.scorers) == ["safety"]
    assert "secret" not in ready_message(todo)


def test_without_a_redis_the_sentence_says_what_to_do() -> None:
    with pytest.raises(StartError, match=r"redis\.url"):
        plan(demo_config(), CPU, None)


def test_a_worker_on_a_cpu_starts_eagerly_and_never_phones_home() -> None:
    part = worker_part("p", PolicyConfig(model="org/p"), CPU, shared=True)
    assert "--enforce-eager" in part.command
    assert part.env["TORCHDYNAMO_DISABLE"] == "1"
    assert part.env["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert part.env["VLLM_NO_USAGE_STATS"] == part.env["DO_NOT_TRACK"] == "1"
    assert "HF_HUB_OFFLINE" not in part.env


def test_a_local_model_needs_no_hub(tmp_path: Path) -> None:
    part = worker_part("p", PolicyConfig(model=str(tmp_path)), CPU, shared=True)
    assert part.env["HF_HUB_OFFLINE"] == "1"


def test_a_worker_takes_adapters_while_it_runs_only_where_it_should() -> None:
    policy = parse({"policies": {"p": {"model": "org/p", "engine": {"lora": True}}}}).policies["p"]
    part = worker_part("p", policy, CPU, shared=True)
    assert "--enable-lora" in part.command and part.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    without = worker_part("p", PolicyConfig(model="org/p"), CPU, shared=True)
    assert "--enable-lora" not in without.command and "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in without.env


@pytest.mark.parametrize("args", [[], ["--gpu-memory-utilization=0.5"], ["--gpu_memory_utilization", "0.5"]])
def test_a_gpu_is_shared_with_the_scorers_unless_the_arguments_say_otherwise(args: list[str]) -> None:
    policy = parse({"policies": {"p": {"model": "org/p", "engine": {"args": args}}}}).policies["p"]
    command = worker_part("p", policy, GPU, shared=True).command
    assert "--enforce-eager" not in command
    assert ("0.8" in command) == (not args)


def test_the_demo_reads_tool_calls() -> None:
    command = " ".join(part_of(planned(demo_config()), "vllm-demo-policy").command)
    assert "--enable-auto-tool-choice --tool-call-parser hermes" in command
    assert "--enable-scale-out" in command


def test_parsers_of_a_models_output_are_passed_to_its_worker() -> None:
    choices = Choices(
        policy="org/p", no_reward=True, no_safety=True, tool_call_parser="llama3_json", reasoning_parser="qwen3"
    )
    command = " ".join(part_of(planned(chosen(choices)), "vllm-p").command)
    assert "--enable-auto-tool-choice --tool-call-parser llama3_json --reasoning-parser qwen3" in command


def test_without_parsers_none_is_asked_for() -> None:
    command = worker_part("p", PolicyConfig(model="org/p"), CPU, shared=True).command
    assert not [arg for arg in command if "parser" in arg or "auto-tool" in arg]


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ({"tool_call_parser": "--api-key"}, r"policies\.p\.engine\.tool_call_parser: .*pattern"),
        (
            {"reasoning_parser": "qwen3", "args": ["--reasoning_parser=granite"]},
            "reasoning_parser and --reasoning-parser in args both name a parser",
        ),
    ],
)
def test_a_parser_is_a_name_given_once(engine: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse({"policies": {"p": {"model": "org/p", "engine": engine}}})


def test_two_policies_on_one_port_are_refused() -> None:
    config = parse({"policies": {name: {"model": "org/p"} for name in ("a", "b")}})
    found = preflight.problems(planned(config), config)
    assert any("policies.a.engine.port and by policies.b.engine.port" in text for text in found)


@pytest.mark.parametrize(
    ("host", "fine"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("192.168.1.5", False), ("x", False)],
)
def test_other_machines_are_served_only_where_the_configuration_says_so(host: str, fine: bool, tmp_path: Path) -> None:
    config = parse({"data_dir": str(tmp_path), "gateway": {"host": host}})
    assert (preflight.host_problems(config) == []) is fine
    assert preflight.host_problems(parse({"gateway": {"host": host, "allow_anonymous": True}})) == []


def test_a_known_key_is_as_good_and_a_redis_elsewhere_is_left_to_the_gateway(tmp_path: Path) -> None:
    config = parse({"data_dir": str(tmp_path), "gateway": {"host": "0.0.0.0"}})
    assert "bestow keys create" in preflight.host_problems(config)[0]
    key, _ = make_key(name="k", tenant="default", scopes=("admin",), expires=None, created_by="", now=0.0)
    save(cache_file(tmp_path), Snapshot(1, {key.id: key}))
    assert preflight.host_problems(config) == []
    elsewhere = parse({"gateway": {"host": "0.0.0.0"}, "redis": {"url": "redis://somewhere"}})
    assert preflight.host_problems(elsewhere) == []


def test_missing_demo_models_name_the_command_that_makes_them(tmp_path: Path) -> None:
    config = demo_config(tmp_path)
    found = preflight.problems(planned(config), config)
    assert sum("make demo-models" in text for text in found) == 3


def test_a_model_is_judged_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert problem_of("k", str(tmp_path)) is None
    assert problem_of("k", "Qwen/Qwen3-0.6B") is None
    assert "no folder" in str(problem_of("k", "./nowhere"))
    (tmp_path / "empty").mkdir()
    assert "config.json" in str(problem_of("k", str(tmp_path / "empty")))


@pytest.mark.parametrize(
    ("model", "name"),
    [("Qwen/Qwen3-0.6B", "Qwen3-0.6B"), ("/m/my model!/", "my-model-"), ("./x/..", "model"), ("a" * 90, "a" * 64)],
)
def test_a_public_name_comes_from_the_last_part(model: str, name: str) -> None:
    assert public_name(model) == name


def test_models_can_go_without_reward_and_safety() -> None:
    config = models_config("org/p", None, None)
    assert config.scorers == {}
    assert config.profiles["default"].reward is None and config.profiles["default"].safety is None
    assert [part.name for part in planned(config).parts] == ["redis", "vllm-p", "gateway"]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (Choices(policy="o/p"), "--no-reward"),
        (Choices(policy="o/p", reward="o/r"), "--no-safety"),
        (Choices(policy="o/p", reward="o/r", no_reward=True), "exclude each other"),
        (Choices(policy="o/p", config=Path("x")), "exclude each other"),
        (Choices(reward="o/r"), "go with --policy"),
        (Choices(policy="o/p", no_reward=True, no_safety=True, name="a b"), "cannot be a model's name"),
        (Choices(config=Path("/nowhere.yaml")), "no configuration file"),
    ],
)
def test_options_that_do_not_fit_are_explained(choices: Choices, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        chosen(choices)


def test_options_override_single_keys() -> None:
    config = chosen(Choices(n=32, port=9000, host="localhost", data_dir=Path("/tmp/d")))
    assert (config.gateway.port, config.gateway.host, config.data_dir) == (9000, "localhost", Path("/tmp/d"))
    assert (config.profiles["default"].n, config.profiles["default"].max_n) == (32, 32)


def test_one_data_directory_holds_one_stack(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(StartError, match="running already"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_data_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="Set data_dir"), only_one(tmp_path / "file"):
        pass


def test_the_ready_message_has_the_addresses_and_a_line_to_paste(tmp_path: Path) -> None:
    text = ready_message(planned(at(demo_config(), tmp_path)))
    assert "http://127.0.0.1:8000/v1/chat/completions" in text
    assert '"model": "bestow-demo"' in text and "houseplant" in text
    assert "Ctrl-C stops everything." in text
    assert "no API keys: only this machine can call" in text and "authorization" not in text


def test_the_ready_message_says_where_a_key_is_needed(tmp_path: Path) -> None:
    key, _ = make_key(name="k", tenant="default", scopes=("admin",), expires=None, created_by="", now=0.0)
    save(cache_file(tmp_path), Snapshot(1, {key.id: key}))
    text = ready_message(planned(at(demo_config(), tmp_path)))
    assert "API keys are needed" in text
    assert text.count('-H "authorization: Bearer $BESTOW_KEY"') == 2
