"""A server's key and environment stay in their process: serialisation omits them or is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import pickle
import time

import pytest
from pydantic import TypeAdapter

from qwen3_integrations import open_engine
from qwen3_integrations.errors import ConfigError
from qwen3_integrations.langchain import Qwen3Embeddings, Qwen3Rerank
from qwen3_integrations.llama_index import Qwen3Embedding
from qwen3_integrations.llama_index import Qwen3Rerank as LlamaIndexRerank
from qwen3_integrations.models.checkpoint import read_model
from qwen3_integrations.serving import ServerOptions, attach
from qwen3_integrations.serving.command import build_command
from qwen3_integrations.serving.installed import Installed
from qwen3_integrations.serving.records import FOLDER_VARIABLE, ServerRecord, servers_folder
from qwen3_integrations.serving.server import Server
from tests.models import TINY

KEY, TOKEN = "a-very-secret-key", "another-very-secret-token"
OPTIONS = {"task": "embed", "model": "m", "port": 8123}
SECRET = ServerOptions(**OPTIONS, api_key=KEY, env={"HF_TOKEN": TOKEN})


def holds_none(written):
    text = written if isinstance(written, bytes) else str(written).encode()
    return KEY.encode() not in text and TOKEN.encode() not in text


@pytest.mark.parametrize("more", [{"api_key": KEY}, {"env": {"HF_TOKEN": TOKEN}}])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_options_with_a_secret_are_not_pickled(more, protocol):
    with pytest.raises(ConfigError, match=f"ServerOptions can't be pickled: {next(iter(more))} .*give it in the other process") as caught:
        pickle.dumps([ServerOptions(**OPTIONS, **more)], protocol)
    assert holds_none(repr(caught.value) + str(vars(caught.value)))


def test_options_without_a_secret_are_pickled():
    options = ServerOptions(**OPTIONS, extra_args=("--seed", "1"))
    assert pickle.loads(pickle.dumps(options)) == options


def test_serialised_fields_contain_no_secrets():
    for written in (
        repr(SECRET),
        dataclasses.asdict(SECRET),
        dataclasses.astuple(SECRET),
        json.dumps(dataclasses.asdict(SECRET)),
        TypeAdapter(ServerOptions).dump_json(SECRET),
        SECRET.to_dict(),
        SECRET.to_words(),
    ):
        assert holds_none(written)
        assert "8123" in str(written)


def test_copies_in_the_same_process_keep_the_secrets():
    for made in (copy.copy(SECRET), copy.deepcopy(SECRET), copy.deepcopy([SECRET])[0], dataclasses.replace(SECRET)):
        assert made == SECRET
        assert (made.api_key, made.env) == (KEY, {"HF_TOKEN": TOKEN})
    other = dataclasses.replace(SECRET, port=1)
    assert (other.port, other.api_key, other.env) == (1, KEY, {"HF_TOKEN": TOKEN})
    assert dataclasses.replace(SECRET, api_key="other").api_key == "other"


def test_options_differ_by_their_secrets():
    assert ServerOptions(**OPTIONS, api_key=KEY) != ServerOptions(**OPTIONS, api_key="other")
    assert ServerOptions(**OPTIONS, env={"a": "b"}) != ServerOptions(**OPTIONS)
    assert ServerOptions(**OPTIONS) == ServerOptions(**OPTIONS)
    assert hash(SECRET) == hash(copy.copy(SECRET))
    assert ServerOptions(**OPTIONS) != 3


def test_the_callers_environment_is_not_kept():
    env = {"A": "1"}
    options = ServerOptions(**OPTIONS, env=env)
    env["A"] = "2"
    assert options.env == {"A": "1"}
    with pytest.raises(TypeError):
        options.env["A"] = "3"
    with pytest.raises((AttributeError, TypeError)):
        options.api_key = "x"


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_command_is_written_without_its_environment_and_key_file(engine):
    options = ServerOptions(**OPTIONS, engine=engine, env={"HF_TOKEN": TOKEN})
    program = Installed(engine, "1", engine, "python", frozenset())
    command = build_command(options, read_model(TINY / "embedding", "embed"), program, port=1, api_key=KEY)
    assert KEY in str(dict(command.env)) + str(command.key_config)
    for written in (repr(command), str(command), dataclasses.asdict(command)):
        assert holds_none(written)
    with pytest.raises(ConfigError, match="Command can't be pickled"):
        pickle.dumps(command)
    made = copy.deepcopy(command)
    assert (made.argv, made.env, made.key_config) == (command.argv, command.env, command.key_config)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "servers"))
    folder = servers_folder()
    key = folder / "embed-m-1.key.yaml"
    key.write_text(f"api-key: {json.dumps(KEY)}\n")
    key.chmod(0o600)
    about = ("embed-m-1", "embed", "m", "sglang", "http://127.0.0.1:1", os.getpid(), True, time.time(), ("x",))
    about += (f"{folder}/embed-m-1.log", "/", OPTIONS)
    ServerRecord(*about, key_config=str(key)).write()
    return attach()


def test_a_server_is_pickled_without_its_key_which_the_other_process_reads_again(server):
    assert server.api_key == KEY
    written = pickle.dumps(server)
    assert holds_none(written)
    made = pickle.loads(written)
    assert isinstance(made, Server)
    assert (made.name, made.api_key, made.owned) == (server.name, KEY, False)


def test_a_server_shows_no_key(server):
    assert server.api_key == KEY
    for shown in (repr(server), vars(server), server._repr_html_(), server.status().to_dict(), server.snippets(), server.options):
        assert holds_none(shown)
    assert server.options.api_key == KEY


def test_the_state_of_a_servers_parts_shows_no_key(server):
    """Tools that serialise objects by their state read it like this."""
    assert server.api_key == KEY
    for part in vars(server).values():
        try:
            state = part.__getstate__()
        except ConfigError as refusal:
            state = refusal
        assert holds_none(state)


def test_copies_of_a_server_keep_a_key_that_was_given(server):
    given = attach(api_key="given")
    for made in (copy.copy(given), copy.deepcopy(given)):
        assert made.api_key == "given"
    assert b"given" not in pickle.dumps(given)


def components(**secret):
    yield Qwen3Embeddings(model="m", **secret)
    yield Qwen3Rerank(model="m", **secret)
    yield Qwen3Embedding(model="m", **secret)
    yield LlamaIndexRerank(model="m", **secret)


@pytest.mark.parametrize(
    "secret",
    [
        {"base_url": "http://127.0.0.1:9", "api_key": KEY},
        {"base_url": f"http://user:{KEY}@127.0.0.1:9"},
        {"base_url": "http://127.0.0.1:9", "engine_options": {"headers": {"X-Key": KEY}}},
    ],
)
def test_components_are_not_pickled_with_a_secret_and_never_show_it(secret):
    for component in components(**secret):
        with pytest.raises(ConfigError, match="can't be pickled") as caught:
            pickle.dumps(component)
        assert holds_none(caught.value)
        for shown in (repr(component), str(component), component.model_dump(), component.model_dump_json(), component._repr_html_()):
            assert holds_none(shown)
        made = copy.deepcopy(component)
        assert made.api_key == component.api_key
        component.close()
        made.close()


def test_an_engine_that_holds_a_key_is_not_pickled():
    with open_engine("embed", "m", base_url="http://127.0.0.1:9", api_key=KEY) as engine:
        with pytest.raises((ConfigError, TypeError, pickle.PicklingError)) as caught:
            pickle.dumps(engine)
        assert holds_none(f"{caught.value!r} {engine!r}")
