"""What all four components have in common: settings, refusals, secrets, the engine they own or borrow."""

from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
import subprocess
import sys

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from qwen3_integrations import FakeEngine, langchain, llama_index
from qwen3_integrations.core.prompts import DEFAULT_INSTRUCTION, TextConventions
from qwen3_integrations.errors import ConfigError, EngineClosed, InvalidText, MissingExtra, ModelNotFound

KEY = "sk-do-not-show-me"
EMBEDDERS = [langchain.Qwen3Embeddings, llama_index.Qwen3Embedding]
RERANKERS = [langchain.Qwen3Rerank, llama_index.Qwen3Rerank]
COMPONENTS = EMBEDDERS + RERANKERS


def use(component):
    """Make a component work; what it answers."""
    if isinstance(component, langchain.Qwen3Embeddings):
        return component.embed_query("red planet")
    if isinstance(component, llama_index.Qwen3Embedding):
        return component.get_query_embedding("red planet")
    if isinstance(component, langchain.Qwen3Rerank):
        return component.rerank(["mars"], "red planet")
    return component.postprocess_nodes([], query_str="red planet")


def task(cls):
    return "embed" if cls in EMBEDDERS else "rerank"


@pytest.fixture(params=COMPONENTS, ids=lambda cls: f"{cls.__module__.split('.')[1]}-{cls.__name__}")
def cls(request):
    return request.param


def test_the_signature_is_the_published_one(cls):
    parameters = inspect.signature(cls).parameters
    shared = {
        "base_url": None,
        "api_key": None,
        "instruction": DEFAULT_INSTRUCTION if cls in RERANKERS else None,  # of an embedder: the prompt of the model's folder
        "max_tokens": None,  # what the model's folder declares, or 8192
        "backend": "auto",
        "engine": None,
        "engine_options": None,
    }
    own = {"model": "Qwen/Qwen3-Embedding-0.6B", "dimensions": None}
    if cls in RERANKERS:
        own = {"model": "Qwen/Qwen3-Reranker-0.6B", "top_n": None, "score_threshold": None}
    assert {name: parameters[name].default for name in shared | own} == shared | own


def test_repr_shows_the_backend_that_was_chosen(cls):
    component = cls(backend="fake")
    for shown in (repr(component), str(component)):
        assert "backend='fake'" in shown
        assert "FakeEngine" in shown
        assert repr(component.model) in shown


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"modle": "x"}, "modle is not a setting of .*, did you mean 'model'"),
        ({"backend": "vlm"}, "backend"),
        ({"model": ""}, "model must be a name"),
        ({"model": 3}, "model"),
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1"),
        ({"max_tokens": "many"}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"engine": "torch"}, "engine"),
        ({"engine_options": {"dimesions": 32}}, "did you mean 'dimensions'"),
        ({"engine_options": {"api_key": KEY}}, "engine_options of .* can't contain api_key"),
        ({"base_url": "http://localhost:1"}, "base_url names a server"),
    ],
)
def test_unfit_settings_are_refused_when_it_is_made(cls, wrong, message):
    with pytest.raises(ConfigError, match=message):
        cls(**{"backend": "fake"} | wrong)


@pytest.mark.parametrize("dimensions", [31, 1025, 0, -1, 64.0, True, "64"])
@pytest.mark.parametrize("cls", EMBEDDERS)
def test_dimensions_out_of_range_are_refused(cls, dimensions):
    with pytest.raises(ConfigError, match="dimensions"):
        cls(backend="fake", dimensions=dimensions)


WRONG_CUTS = [
    *(("top_n", wrong) for wrong in (0, True, 2.0)),
    *(("score_threshold", wrong) for wrong in (-0.1, 1.1, float("nan"), "high", True)),
]


@pytest.mark.parametrize(("name", "value"), WRONG_CUTS)
@pytest.mark.parametrize("cls", RERANKERS)
def test_cuts_out_of_range_are_refused(cls, name, value):
    with pytest.raises(ConfigError, match=name):
        cls(backend="fake", **{name: value})
    component = cls(backend="fake")
    with pytest.raises(ConfigError, match=name):
        setattr(component, name, value)
    assert getattr(component, name) is None


def test_what_is_wrong_is_found_before_a_model_is_loaded(cls):
    """The model is nowhere: had it been looked for first, the error would be ModelNotFound."""
    wrong = {"dimensions": 8} if cls in EMBEDDERS else {"top_n": 0}
    with pytest.raises(ConfigError) as caught:
        cls(model="/nowhere/at/all", backend="torch", **wrong)
    assert not isinstance(caught.value, ModelNotFound)


def test_errors_of_the_core_arrive_as_they_are(cls, monkeypatch):
    with pytest.raises(ModelNotFound):
        cls(model="/nowhere/at/all", backend="torch")
    with pytest.raises(TypeError, match="instruction must be a string, not int"):
        cls(backend="fake", instruction=5)
    with pytest.raises(InvalidText, match=r"U\+D800"):
        cls(backend="fake", instruction="\ud800")
    other = FakeEngine("rerank" if task(cls) == "embed" else "embed")
    with pytest.raises(ConfigError, match="engine must be opened for"):
        cls(engine=other)
    published = {"embed": "Qwen/Qwen3-Reranker-4B", "rerank": "Qwen/Qwen3-Embedding-4B"}[task(cls)]
    with pytest.raises(ConfigError, match=r"is an? .* is needed"):
        cls(model=published, backend="fake")


def test_a_missing_backend_names_the_pip_line(cls, monkeypatch):
    from qwen3_integrations.engines import registry

    def missing(_):
        raise MissingExtra("pip install 'qwen3-integrations[vllm]'")

    monkeypatch.setattr(registry, "_maker", missing)  # the venv has every backend
    with pytest.raises(MissingExtra, match="pip install"):
        cls(backend="vllm")


def test_inside_another_pydantic_model_the_message_stays(cls):
    class Holder(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        part: cls

    assert isinstance(Holder(part={"backend": "fake"}).part, cls)
    with pytest.raises(ValidationError, match="did you mean 'model'"):
        Holder(part={"backend": "fake", "modle": "x"})


def test_instruction_may_be_assigned_and_is_used(cls):
    engine = FakeEngine(task(cls))
    component = cls(engine=engine, instruction="Find planets.")
    component.instruction = "Find moons."
    if isinstance(component, llama_index.Qwen3Rerank):
        from llama_index.core.schema import NodeWithScore, TextNode

        component.postprocess_nodes([NodeWithScore(node=TextNode(text="mars"))], query_str="red planet")
    else:
        use(component)
    assert {prompt.prefix.instruction for prompt in engine.jobs[-1].prompts} == {"Find moons."}
    with pytest.raises(TypeError, match="instruction must be a string"):
        component.instruction = 7
    assert component.instruction == "Find moons."


@pytest.mark.parametrize("cls", [cls for cls in COMPONENTS if cls not in RERANKERS], indirect=True)
def test_without_an_instruction_an_embedder_takes_the_prompt_of_the_folder(cls):
    engine = FakeEngine("embed")
    component = cls(engine=engine, instruction="Find planets.")
    component.instruction = None
    use(component)
    assert engine.jobs[-1].prompts[0].prefix.text.startswith(f"Instruct: {DEFAULT_INSTRUCTION}\nQuery:")
    assert (cls(engine=engine).instruction, cls(engine=engine).max_tokens) == (DEFAULT_INSTRUCTION, 8192)
    engine.conventions = TextConventions(query="query: ", max_tokens=100)
    component = cls(engine=engine)
    use(component)
    assert engine.jobs[-1].prompts[0].prefix.text.startswith("query: ")
    assert (component.instruction, component.query_prompt, component.max_tokens) == (None, "query: ", 100)
    assert "query_prompt='query: '" in repr(component)


@pytest.mark.parametrize("name", ["model", "base_url", "api_key", "max_tokens", "backend", "engine", "engine_options"])
def test_other_settings_are_fixed(cls, name):
    component = cls(backend="fake")
    with pytest.raises(ConfigError, match=f"{name} of {cls.__name__} is fixed once the engine is open. Make a new {cls.__name__}"):
        setattr(component, name, getattr(component, name))
    with pytest.raises(ConfigError, match="did you mean 'instruction'"):
        component.instrucion = "x"


def test_the_key_is_never_shown(cls, caplog):
    caplog.set_level(logging.DEBUG)
    component = cls(backend="fake", api_key=KEY)
    shown = [repr(component), str(component), str(component.model_dump()), component.model_dump_json()]
    if cls.__module__.endswith("llama_index"):
        shown += [str(component.to_dict()), component.to_json()]
    if hasattr(component, "to_json") and cls is langchain.Qwen3Rerank:
        shown += [str(component.to_json())]
    use(component)
    shown.append(caplog.text)
    assert not [text for text in shown if KEY in text]
    assert component.api_key.get_secret_value() == KEY
    with pytest.raises(ConfigError) as caught:
        pickle.dumps(component)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"api_key": [KEY]}, {"api_key": KEY, "tpo_n": KEY}, {"base_url": [KEY]}])
def test_the_key_is_not_in_error_messages(cls, wrong):
    with pytest.raises(ConfigError) as caught:
        cls(backend="fake", **wrong)
    shown = str(caught.value) + str(caught.value.__context__)
    assert KEY not in shown


class Remote(FakeEngine):
    """Takes a server's settings without one: what is shown and dumped is the component's affair."""

    def __init__(self, task, model, *, base_url=None, api_key=None, **options):
        super().__init__(task, model)


def test_secrets_among_engine_options_and_in_the_address_are_not_dumped(cls, monkeypatch):
    from qwen3_integrations.engines import registry

    monkeypatch.setattr(registry, "_maker", lambda backend: Remote)
    monkeypatch.setattr(registry, "check_options", lambda given, known, owner: None)
    options = {"timeout_s": 5, "default_headers": {"Authorization": KEY}, "hf_token": KEY, "http_client": KEY}
    for secret in ({"engine_options": options}, {"base_url": f"https://me:{KEY}@host/v1?x=@"}):
        component = cls(**secret)
        assert KEY not in repr(component) + component.model_dump_json() + str(component.model_dump())
        with pytest.raises(ConfigError, match="QWEN3_API_KEY"):
            pickle.dumps(component)
    assert component.model_dump()["base_url"] == "https://host/v1?x=@"
    assert cls(engine_options=options).model_dump()["engine_options"] == {"timeout_s": 5}


ONLY_FOR_OPENING = {"base_url": "http://localhost:1", "api_key": KEY, "backend": "fake", "engine_options": {"dimensions": 32}}


@pytest.mark.parametrize("name", ONLY_FOR_OPENING)
def test_an_opened_engine_stands_alone(cls, name):
    with pytest.raises(ConfigError, match=f"engine is already open, so {name} would have no effect"):
        cls(engine=FakeEngine(task(cls)), **{name: ONLY_FOR_OPENING[name]})
    with pytest.raises(ConfigError, match="model is 'other'"):
        cls(engine=FakeEngine(task(cls), "this"), model="other")
    assert cls(engine=FakeEngine(task(cls), "this")).model == "this"


def test_close_gives_back_only_what_it_opened(cls):
    engine = FakeEngine(task(cls))
    with cls(engine=engine) as borrowing:
        use(borrowing)
    use(borrowing)
    with cls(backend="fake") as owner:
        use(owner)
    owner.close()
    with pytest.raises(EngineClosed):
        use(owner)
    assert "closed" in repr(owner)


def test_a_component_that_could_not_be_made_leaves_nothing_open(cls):
    from qwen3_integrations.engines import sharing

    before = dict(sharing._open)
    with pytest.raises(ConfigError):
        cls(model="left-open", backend="fake", **({"dimensions": 640} if cls in EMBEDDERS else {"top_n": 0}))
    assert dict(sharing._open) == before


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda part: part.model_copy(), lambda part: part.model_copy(deep=True)])
def test_copies_have_their_own_hold_on_the_engine(cls, copied):
    one = cls(backend="fake", instruction="Find moons.", engine_options={"max_tokens": 512})
    other = copied(one)
    one.close()
    use(other)
    assert other.instruction == "Find moons."
    assert other.engine_options == {"max_tokens": 512}
    other.instruction = "Find planets."
    assert one.instruction == "Find moons."


def test_a_changed_copy_is_checked(cls):
    one = cls(backend="fake")
    assert one.model_copy(update={"model": "other", "max_tokens": 100}).model == "other"
    with pytest.raises(ConfigError, match="max_tokens"):
        one.model_copy(update={"max_tokens": 0})


def test_pickle(cls):
    one = cls(backend="fake", instruction="Find moons.", max_tokens=100)
    other = pickle.loads(pickle.dumps(one))
    assert use(other) == use(one)
    assert (other.instruction, other.max_tokens) == ("Find moons.", 100)
    with pytest.raises(ConfigError, match="can't be pickled, because it was made with an opened engine"):
        pickle.dumps(cls(engine=FakeEngine(task(cls))))


def test_dump_and_remake(cls):
    one = cls(backend="fake", model="some-name", instruction="Find moons.", engine_options={"max_tokens": 512})
    dumped = json.loads(one.model_dump_json())
    dumped.pop("class_name", None)
    other = cls(**dumped)
    assert other.model_dump() == one.model_dump()


@pytest.mark.parametrize(("module", "host"), [("langchain", "langchain_core"), ("llama_index", "llama_index.core")])
def test_a_missing_host_names_the_pip_line(module, host):
    program = (
        f"import sys; sys.modules[{host!r}] = None\n"
        f"try: import qwen3_integrations.{module}\n"
        "except ImportError as error: print(type(error).__name__, error)"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.startswith("MissingExtra")
    assert f"pip install 'qwen3-integrations[{module.replace('_', '-')}]'" in told


def test_one_adapter_does_without_the_other_host():
    for module, other in (("langchain", "llama_index"), ("llama_index", "langchain_core")):
        program = f"import sys; import qwen3_integrations.{module}; print({other!r} in sys.modules, 'torch' in sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert loaded.split() == ["False", "False"]


def test_usage_counts(cls):
    component = cls(backend="fake")
    assert component.usage.prompts == 0
    use(component)
    assert component.usage.prompts == (0 if cls is llama_index.Qwen3Rerank else 1)


def test_the_settings_as_a_json_schema(cls):
    """For forms and web services: they can hold neither an opened engine nor a function."""
    schema = cls.model_json_schema()
    assert schema["properties"].keys() - {"class_name"} == inspect.signature(cls).parameters.keys() - {"engine", "preprocess"}


def test_a_retriever_as_a_json_schema():
    assert {"retriever", "reranker", "fetch_k", "search_kwargs"} <= langchain.RerankingRetriever.model_json_schema()["properties"].keys()


@pytest.fixture
def named_server(monkeypatch):
    """Addresses and a key in the environment."""
    monkeypatch.setenv("QWEN3_EMBEDDING_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("QWEN3_RERANKER_URL", "http://127.0.0.1:2/v1")
    monkeypatch.setenv("QWEN3_API_KEY", KEY)
    return lambda cls: f"http://127.0.0.1:{1 if cls in EMBEDDERS else 2}/v1"


def test_the_server_of_the_environment_shows_on_the_component(cls, named_server):
    component = cls()
    assert component.base_url == named_server(cls)
    assert component.api_key.get_secret_value() == KEY
    for shown in (repr(component), str(component), component.model_dump_json(), repr(component.api_key)):
        assert KEY not in shown
    assert component.model_copy().base_url == component.base_url


def test_a_setting_comes_before_the_environment(cls, named_server):
    component = cls(base_url="http://127.0.0.1:3/v1", api_key="own")
    assert (component.base_url, component.api_key.get_secret_value()) == ("http://127.0.0.1:3/v1", "own")
    beside = cls(base_url="http://user:password@127.0.0.1:3/v1")
    assert beside.api_key is None  # both would be the same header
    for backend in ("fake", "torch"):
        local = cls(model="qwen3-tiny-demo", backend=backend)
        assert (local.base_url, local.api_key) == (None, None)


def test_a_component_with_a_server_of_the_environment_is_pickled_without_it(cls, named_server, monkeypatch):
    pickled = pickle.dumps(cls())
    assert KEY.encode() not in pickled
    assert b"127.0.0.1" not in pickled
    monkeypatch.setenv("QWEN3_EMBEDDING_URL", "http://127.0.0.1:4/v1")
    monkeypatch.setenv("QWEN3_RERANKER_URL", "http://127.0.0.1:4/v1")
    assert pickle.loads(pickled).base_url == "http://127.0.0.1:4/v1"
