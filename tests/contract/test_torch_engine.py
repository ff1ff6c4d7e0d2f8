"""The torch engine against the plain reference, and what is its own."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import signal
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.core.types import Job, Prefix, Prompt, PromptPart
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.torch.passes import Device, PassTooLarge
from qwen3_integrations.engines.torch.queue import JobQueue
from qwen3_integrations.errors import ConfigError, EngineError, ModelNotFound
from tests.contract.cases import TOLERANCE, check_embeddings, check_scores
from tests.contract.label_cases import HEADS, check_head
from tests.models import SHAPES, Shape, declare, write_classifier, write_random_model
from tests.reference import reference_embeddings, reference_scores
from tests.texts import HOSTILE, PLAIN


@pytest.mark.parametrize("size", ["tiny", *SHAPES])
def test_embeddings_equal_the_reference(size, tiny_embedder, random_models):
    folder = tiny_embedder if size == "tiny" else random_models["embed", size]
    engine = TorchEngine("embed", str(folder), device="cpu", dtype="float32")
    check_embeddings(engine, folder)
    engine.close()


@pytest.mark.parametrize("size", ["tiny", *SHAPES])
def test_scores_equal_the_reference(size, tiny_reranker, random_models):
    folder = tiny_reranker if size == "tiny" else random_models["rerank", size]
    engine = TorchEngine("rerank", str(folder), device="cpu", dtype="float32")
    check_scores(engine, folder)
    engine.close()


def test_a_sequence_classification_conversion_gives_the_original_scores(random_reranker, tmp_path):
    folder = write_classifier(tmp_path / "converted", random_reranker)
    check_scores(TorchEngine("rerank", str(folder), dtype="float32", device="cpu"), random_reranker)


@pytest.mark.parametrize("head", HEADS)
def test_a_stored_head_is_read_as_its_labels_say(random_reranker, tmp_path, head):
    folder = write_classifier(tmp_path / "converted", random_reranker, **HEADS[head])
    engine = TorchEngine("rerank", str(folder), dtype="float32", device="cpu")
    check_head(folder, random_reranker, engine, HEADS[head])
    engine.close()


@pytest.mark.parametrize("said", [{"problem_type": "regression"}, {"classifier_from_token": ["no", "yes"], "method": "from_2_way_softmax"}])
def test_the_stored_head_is_read_independently_of_other_config_fields(random_reranker, tmp_path, said):
    folder = declare(write_classifier(tmp_path / "converted", random_reranker), **said)
    check_scores(TorchEngine("rerank", str(folder), dtype="float32", device="cpu"), random_reranker)


@pytest.mark.parametrize("budget", [1, 50, 300, 100_000])
def test_the_token_budget_of_a_pass_changes_nothing(random_embedder, random_reranker, budget):
    embedder = Embedder(TorchEngine("embed", str(random_embedder), device="cpu", dtype="float32", max_batch_tokens=budget))
    assert np.abs(embedder.embed_documents(PLAIN) - reference_embeddings(random_embedder, PLAIN)).max() < TOLERANCE
    reranker = Reranker(TorchEngine("rerank", str(random_reranker), device="cpu", dtype="float32", max_batch_tokens=budget))
    pairs = [(query, document) for query in ("one", "two", "") for document in PLAIN]
    assert np.abs(reranker.score(pairs) - reference_scores(random_reranker, pairs)).max() < TOLERANCE


def test_weights_split_over_files_are_read(random_models, tmp_path):
    """The larger checkpoints come in shards, and their output head lies in one of them."""
    from safetensors.torch import load_file, save_file

    source = random_models["rerank", "8B"]
    folder = tmp_path / "sharded"
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    halves = [dict(list(tensors.items())[::2]), dict(list(tensors.items())[1::2])]
    names = {}
    for number, half in enumerate(halves, 1):
        save_file(half, folder / f"model-0000{number}-of-00002.safetensors", metadata={"format": "pt"})
        names |= dict.fromkeys(half, f"model-0000{number}-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    check_scores(TorchEngine("rerank", str(folder), device="cpu", dtype="float32"), source)


def test_memory_is_given_back(tiny_embedder):
    engine = TorchEngine("embed", str(tiny_embedder), device="cpu")
    model = weakref.ref(engine._queue._devices[0].runner._model)
    engine.close()
    gc.collect()
    assert model() is None


LONG = [f"{number} " + "words of a long text " * 60 for number in range(400)]


async def test_a_cancelled_job_leaves_the_queue(random_embedder):
    engine = TorchEngine("embed", str(random_embedder), device="cpu")
    task = asyncio.create_task(Embedder(engine).aembed_documents(LONG))
    while not len(engine._queue):  # noqa: ASYNC110  the queue has no event for this
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(await Embedder(engine).aembed_documents(["one"])) == 1
    assert len(engine._queue) == 0
    engine.close()


@pytest.fixture
def _interruptible():
    """Also where the tests were started in a shell's background, which has them ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_leaves_the_queue(random_embedder):
    """As Ctrl-C in a notebook's cell."""
    engine = TorchEngine("embed", str(random_embedder), device="cpu")
    embedder = Embedder(engine)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        embedder.embed_documents(LONG * 10)
    timer.join()
    assert len(embedder.embed_documents(["one"])) == 1
    assert len(engine._queue) == 0
    engine.close()


def test_neither_a_query_nor_a_corpus_is_starved(random_embedder):
    """Short jobs that come without end, and one long one."""
    engine = TorchEngine("embed", str(random_embedder), device="cpu", max_batch_tokens=512)
    embedder = Embedder(engine)
    done = threading.Event()

    def ask_on():
        while not done.is_set():
            embedder.embed_documents([f"{number} " + "a few words " * 30 for number in range(6)])

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on) for _ in range(3)]
        corpus = pool.submit(embedder.embed_documents, [f"{number} words of a corpus" for number in range(300)])
        try:
            assert corpus.result(120).shape[0] == 300
        finally:
            done.set()
        for each in asking:
            each.result()
    engine.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "tpu9"}, "device"),
        ({"device": "cuda:0"}, "sees no cuda"),
        ({"dtype": "int3"}, "dtype"),
        ({"dtpye": "float32"}, "did you mean 'dtype'"),
        ({"source": "ftp"}, "source"),
        ({"max_batch_tokens": 0}, "max_batch_tokens"),
    ],
)
def test_options_that_cannot_work_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        open_engine("embed", "qwen3-tiny-demo", backend="torch", **options)


def test_a_model_of_the_other_task_is_refused(tiny_embedder, tmp_path):
    with pytest.raises(ConfigError, match="embedding model"):
        open_engine("rerank", str(tiny_embedder), backend="torch")
    with pytest.raises(ConfigError, match="is a reranker"):
        open_engine("embed", "Qwen/Qwen3-Reranker-4B", backend="torch")
    with pytest.raises(ModelNotFound, match=r"config\.json"):
        open_engine("embed", str(tmp_path), backend="torch")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 0}, "sliding window.*vllm engine"),
        ({"attention_bias": True}, "bias.*vllm engine"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised.*vllm engine"),
        ({"hidden_act": "gelu"}, "'gelu' instead of 'silu'"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}, "'dynamic'.*vllm engine"),
        ({"num_hidden_layers": 5}, "lacks 33 tensors, such as 'layers.2"),
        ({"intermediate_size": 96}, r"has the shape \(\d+, \d+\), but its config.json says .*different models"),
    ],
)
def test_checkpoints_that_would_give_wrong_numbers_are_refused(random_embedder, tmp_path, changed, said):
    folder = tmp_path / "model"
    shutil.copytree(random_embedder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ConfigError, match=said):
        TorchEngine("embed", str(folder), device="cpu")


def test_a_model_of_one_layer_is_computed(tmp_path):
    """The last layer is computed another way than the others; here there is no other."""
    folder = write_random_model(tmp_path / "model", "embed", Shape(hidden=64, heads=4, kv_heads=2, layers=1, tied=True))
    check_embeddings(TorchEngine("embed", str(folder), device="cpu", dtype="float32"), folder)


@pytest.mark.parametrize("size", SHAPES)
def test_bfloat16_on_a_cpu_stays_within_its_bounds(size, random_models):
    embedder = Embedder(TorchEngine("embed", str(random_models["embed", size]), device="cpu", dtype="bfloat16"))
    cosines = (embedder.embed_documents(HOSTILE) * reference_embeddings(random_models["embed", size], HOSTILE)).sum(axis=1)
    assert cosines.min() >= 0.9998


class OutOfMemoryAt:
    """A model on a device with memory for `most` tokens. A real lack of memory can't be produced on a CPU."""

    asynchronous = False

    def __init__(self, most: int) -> None:
        self.most, self.passes = most, []

    def start(self, prompts):
        tokens = sum(len(prompt.ids) for prompt in prompts)
        if tokens > self.most:
            raise PassTooLarge("out of memory")
        self.passes.append(tokens)
        rows = np.asarray([[len(prompt.ids)] for prompt in prompts], dtype=np.float32)
        return lambda: rows

    def empty_rows(self):
        return np.empty((0, 1), dtype=np.float32)

    def close(self):
        pass


def queue_of(*runners, budget: int = 1000) -> JobQueue:
    names = ["a model"] if len(runners) == 1 else [f"a model on {number}" for number in range(len(runners))]
    return JobQueue("a model", [Device(name, runner, budget) for name, runner in zip(names, runners, strict=True)])


def job_of(*lengths: int) -> Job:
    none = np.empty(0, np.int32)
    texts = [PromptPart("", np.zeros(length, np.int32)) for length in lengths]
    return Job("embed", tuple(Prompt(Prefix("", none), text, PromptPart("", none)) for text in texts), 8192)


def test_a_pass_too_large_for_the_memory_is_halved_until_it_fits(caplog):
    forward = OutOfMemoryAt(most=100)
    queue = queue_of(forward)
    rows = queue.submit(job_of(*range(1, 41))).result(10).rows
    assert rows[:, 0].tolist() == list(range(1, 41))
    assert max(forward.passes) <= 100
    assert caplog.text.count("passes now have at most") == 3  # 820 tokens are too many, and 408, and 198
    assert queue.submit(job_of(30, 30)).result(10).rows[:, 0].tolist() == [30, 30]
    queue.close()


def test_passes_grow_again_when_the_memory_is_back(caplog):
    """Two small prompts met another program's peak: that says nothing of what fits later."""
    forward = OutOfMemoryAt(most=15)
    queue = queue_of(forward)
    queue.submit(job_of(10, 10)).result(10)
    forward.most = 1000
    queue.submit(job_of(*[10] * 2000)).result(10)
    assert 500 < max(forward.passes) <= 1000
    assert caplog.text.count("passes now have at most") == 1
    queue.close()


def test_a_pass_with_too_few_rows_fails_its_own_jobs_only():
    forward = OutOfMemoryAt(most=1000)
    queue = queue_of(forward)
    start = forward.start
    forward.start = lambda prompts: lambda: start(prompts)()[1:]
    with pytest.raises(EngineError, match="shorter"):
        queue.submit(job_of(1, 2)).result(10)
    forward.start = start
    assert queue.submit(job_of(7)).result(10).rows.tolist() == [[7.0]]
    queue.close()


def test_all_waiters_of_a_cancelled_job_wake_up():
    forward = OutOfMemoryAt(most=1000)
    going, begun = threading.Event(), threading.Event()
    start = forward.start
    forward.start = lambda prompts: (begun.set(), going.wait(10), start(prompts))[2]
    queue = queue_of(forward)
    first = queue.submit(job_of(1))
    assert begun.wait(10)
    second = queue.submit(job_of(2))
    assert second.cancel()
    going.set()
    assert wait([first, second], timeout=10).not_done == set()
    queue.close()


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_that_is_cancelled_while_its_pass_is_under_way_leaves_the_others_of_that_pass(fails):
    """As on a GPU, where the next pass is planned while one is computed."""
    forward = OutOfMemoryAt(most=1000)
    forward.asynchronous = True
    going, begun, start, futures = threading.Event(), threading.Event(), forward.start, []

    def held(prompts):
        begun.set()
        assert going.wait(10)
        if len(prompts) > 1:
            futures[0].cancel()
        rows = start(prompts)()
        return (lambda: 1 / 0) if fails and len(prompts) > 1 else (lambda: rows)

    forward.start = held
    queue = queue_of(forward)
    first = queue.submit(job_of(1))
    assert begun.wait(10)
    futures += [queue.submit(job_of(2)), queue.submit(job_of(3))]
    going.set()
    assert first.result(10).rows.tolist() == [[1.0]]
    if fails:
        with pytest.raises(EngineError, match="ZeroDivisionError"):
            futures[1].result(10)
    else:
        assert futures[1].result(10).rows.tolist() == [[3.0]]
    assert wait(futures, timeout=10).not_done == set()
    assert queue.submit(job_of(4)).result(10).rows.tolist() == [[4.0]]
    queue.close()


@pytest.mark.parametrize("when", ["start", "land"])
def test_a_failed_pass_gives_each_caller_an_error_of_its_own(when):
    """Raised in several threads, a shared one would collect the tracebacks of all."""
    forward, going, cause = OutOfMemoryAt(most=1000), threading.Event(), ZeroDivisionError("odd")

    def fail():
        raise cause

    def held(prompts):
        assert going.wait(10)
        return fail if when == "land" else fail()

    forward.start = held
    queue = queue_of(forward)
    futures = [queue.submit(job_of(1, 2)) for _ in range(16)]
    going.set()

    def raised(future):
        with pytest.raises(EngineError, match="the engine for a model failed: ZeroDivisionError: odd") as caught:
            future.result(10)
        return caught.value

    with ThreadPoolExecutor(16) as pool:
        errors = list(pool.map(raised, futures))
    queue.close()
    assert len({id(error) for error in errors}) == 16
    assert all(error.__cause__ is cause for error in errors)
    assert len({len(traceback.extract_tb(error.__traceback__)) for error in errors}) == 1


def test_a_prompt_too_large_for_the_memory_fails_its_own_job_alone(caplog):
    queue = queue_of(OutOfMemoryAt(most=100))
    wanting, fine = queue.submit(job_of(40, 200, 40)), queue.submit(job_of(50))
    with pytest.raises(EngineError, match="for one prompt of 200 tokens: free memory"):
        wanting.result(10)
    assert fine.result(10).rows.tolist() == [[50.0]]
    queue.close()
