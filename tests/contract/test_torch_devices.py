"""Several devices behind one queue of the torch engine. Stand-ins fail here as GPUs do; a CPU can't be made to."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.core.types import Job, Prefix, Prompt, PromptPart
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.torch.passes import Device, PassTooLarge
from qwen3_integrations.engines.torch.queue import JobQueue
from qwen3_integrations.errors import ConfigError, EngineClosed, EngineError
from tests.reference import reference_embeddings, reference_scores
from tests.waiting import until

NONE = np.empty(0, np.int32)
POISON = 666


class Gpu:
    """A stand-in for a model on a GPU: the row of a prompt is the sum of its token ids.

    Args:
        asynchronous: Whether errors appear when a pass is waited for.
    """

    def __init__(self, asynchronous: bool = False) -> None:
        self.asynchronous = asynchronous
        self.dead = self.closed = False
        self.most = 10**9
        self.passes: list[list[int]] = []
        self.before = lambda: None

    def start(self, prompts):
        self.before()
        ids = [int(prompt.ids.sum()) for prompt in prompts]
        self.dead |= POISON in ids
        if sum(len(prompt.ids) for prompt in prompts) > self.most:
            raise PassTooLarge("out of memory")

        def wait():
            if self.dead:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if 13 in ids:
                raise ZeroDivisionError("odd")
            self.passes.append(ids)
            return np.asarray(ids, np.float32)[:, None]

        if self.asynchronous:
            return wait
        rows = wait()
        return lambda: rows

    def empty_rows(self):
        return np.empty((0, 1), np.float32)

    def close(self):
        self.closed = True
        if self.dead:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")


def queue_of(*gpus: Gpu, budget: int = 80) -> JobQueue:
    return JobQueue("a model", [Device(f"a model on cuda:{number}", gpu, budget) for number, gpu in enumerate(gpus)])


def job_of(*values: int) -> Job:
    prompts = [Prompt(Prefix("", NONE), PromptPart("", np.asarray([value], np.int32)), PromptPart("", NONE)) for value in values]
    return Job("rerank", tuple(prompts), 8192)


def rows_of(queue: JobQueue, *values: int) -> list[float]:
    return queue.submit(job_of(*values)).result(20).rows[:, 0].tolist()


@pytest.fixture(params=[False, True], ids=["at once", "when waited for"])
def gpus(request):
    return Gpu(request.param), Gpu(request.param)


@pytest.mark.parametrize("task", ["embed", "rerank"])
def test_two_devices_give_the_reference_numbers(task, random_models):
    folder = random_models[task, "0.6B"]
    engine = TorchEngine(task, str(folder), device="cpu:0,cpu:1", dtype="float32", max_batch_tokens=256)
    assert (engine.device, engine.capabilities.devices) == ("cpu:0,cpu:1", 2)
    texts = [f"{number} words " * (1 + number % 9) for number in range(60)]
    if task == "embed":
        assert np.abs(Embedder(engine).embed_documents(texts) - reference_embeddings(folder, texts)).max() < 1e-5
    else:
        pairs = [(f"query {number % 3}", text) for number, text in enumerate(texts)]
        assert np.abs(Reranker(engine).score(pairs) - reference_scores(folder, pairs)).max() < 1e-5
    engine.close()
    assert not [thread.name for thread in threading.enumerate() if "cpu:1" in thread.name]


def test_components_take_several_devices(tiny_embedder):
    with open_engine("embed", str(tiny_embedder), backend="torch", device="cpu:0,cpu:1") as engine:
        assert "cpu:0,cpu:1" in engine.where
        assert Embedder(engine).embed_documents(["one", "two"]).shape == (2, engine.dimensions)


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cpu:0,cpu:0", "names a device twice"),
        ("cpu:0, cpu:00", "must be auto"),
        ("cpu,cpu:1", "each needs its number"),
        ("auto,cpu:0", "each needs its number"),
        ("cpu:0,meta:0", "different kinds"),
        ("cpu:0,", "each needs its number"),
        ("all", "sees no cuda device"),
        ("cpu:0,gpu:1", "must be auto"),
        (7, "must be auto"),
        (["cuda:0"], "must be auto"),
    ],
)
def test_devices_that_do_not_exist_are_refused(device, said, tiny_embedder):
    with pytest.raises(ConfigError, match=said) as caught:
        TorchEngine("embed", str(tiny_embedder), device=device)
    assert caught.value.option == "device"


def test_idle_devices_divide_a_job(gpus):
    both = threading.Barrier(2, timeout=20)
    for gpu in gpus:
        gpu.before = both.wait
    queue = queue_of(*gpus)
    assert rows_of(queue, *range(100, 140)) == list(range(100, 140))
    assert sorted(len(ids) for gpu in gpus for ids in gpu.passes) == [20, 20]
    queue.close()


def test_few_prompts_are_not_divided(gpus):
    queue = queue_of(*gpus)
    assert rows_of(queue, *range(100, 108)) == list(range(100, 108))
    assert [sorted(ids) for gpu in gpus for ids in gpu.passes] == [[*range(100, 108)]]
    queue.close()


def test_a_busy_device_leaves_the_queue_to_the_others(gpus):
    going, begun = threading.Event(), threading.Event()

    def hold_the_first_pass() -> None:
        if not begun.is_set():
            begun.set()
            going.wait(20)

    for gpu in gpus:
        gpu.before = hold_the_first_pass
    queue = queue_of(*gpus)
    held = queue.submit(job_of(*range(100, 108)))
    assert begun.wait(20)
    for number in range(1000, 1100):
        assert rows_of(queue, number) == [number]
    assert not held.done()
    going.set()
    assert held.result(20).rows[:, 0].tolist() == list(range(100, 108))
    queue.close()


def test_a_device_that_fails_is_left_out_and_nothing_is_lost(gpus, caplog):
    queue = queue_of(*gpus)
    assert rows_of(queue, *range(100, 400)) == list(range(100, 400))
    gpus[0].dead = True
    while "left out" not in caplog.text:
        assert rows_of(queue, *range(100, 400)) == list(range(100, 400))
    assert rows_of(queue, *range(100, 400)) == list(range(100, 400))
    (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith("a model on cuda:0 failed and is left out, the other devices take its work: RuntimeError: CUDA error")
    queue.close()
    assert all(gpu.closed for gpu in gpus)


def test_an_error_that_is_no_failed_device_fails_its_job_alone(gpus, caplog):
    queue = queue_of(*gpus)
    with pytest.raises(EngineError, match="ZeroDivisionError: odd"):
        rows_of(queue, 13)
    assert "left out" not in caplog.text
    both = threading.Barrier(2, timeout=20)
    for gpu in gpus:
        gpu.before = both.wait
    assert rows_of(queue, *range(100, 140)) == list(range(100, 140))
    queue.close()


def test_a_prompt_that_stops_devices_stops_two_at_most(caplog):
    gpus = [Gpu() for _ in range(4)]
    queue = queue_of(*gpus)
    with pytest.raises(EngineError, match="illegal memory access"):
        rows_of(queue, POISON)
    assert sum(gpu.dead for gpu in gpus) == 2
    assert rows_of(queue, *range(100, 140)) == list(range(100, 140))
    assert caplog.text.count("is left out") == 2
    queue.close()


def test_the_last_device_is_kept(gpus, caplog):
    queue = queue_of(*gpus)
    for gpu in gpus:
        gpu.dead = True
    while "left out" not in caplog.text:
        with pytest.raises(EngineError, match="illegal memory access"):
            rows_of(queue, *range(100, 140))
    with pytest.raises(EngineError, match="illegal memory access"):
        rows_of(queue, *range(100, 140))
    assert caplog.text.count("is left out") == 1
    for gpu in gpus:
        gpu.dead = False
    assert rows_of(queue, *range(100, 140)) == list(range(100, 140))
    queue.close()


def test_only_the_device_without_memory_has_smaller_passes(gpus, caplog):
    gpus[0].most = 30
    begun = threading.Event()
    gpus[0].before = lambda: begun.wait(20)  # until the other device has taken its first pass, a full one
    gpus[1].before = lambda: (begun.set(), until(lambda: gpus[0].passes))
    queue = queue_of(*gpus)
    assert rows_of(queue, *range(100, 500)) == list(range(100, 500))
    assert all("a model on cuda:0" in record.message for record in caplog.records)
    assert max(len(ids) for ids in gpus[0].passes) <= 30 < max(len(ids) for ids in gpus[1].passes)
    queue.close()


def test_close_ends_what_runs_and_refuses_the_rest(gpus):
    going, begun = threading.Event(), threading.Barrier(3, timeout=20)
    for gpu in gpus:
        gpu.before = lambda: (begun.wait(), going.wait(20))
    queue = queue_of(*gpus)
    running = [queue.submit(job_of(*range(100, 108))), queue.submit(job_of(*range(200, 208)))]
    begun.wait()
    late = queue.submit(job_of(*range(300, 320)))
    closing = threading.Thread(target=queue.close)
    closing.start()
    with suppress(EngineClosed):
        while closing.is_alive():
            queue.submit(job_of(1))
    with pytest.raises(EngineClosed, match="is closed"):
        queue.submit(job_of(1))
    going.set()
    closing.join(20)
    assert [future.result(20).rows[:, 0].tolist() for future in running] == [list(range(100, 108)), list(range(200, 208))]
    with pytest.raises(EngineClosed, match="before this job was done"):
        late.result(20)
    assert all(gpu.closed for gpu in gpus)


@pytest.mark.parametrize("seed", range(4))
def test_many_callers_while_devices_fail_and_run_out_of_memory(seed, caplog):
    """Each answer is right or an error that names the device's; no caller waits for ever."""
    chance = random.Random(seed)
    gpus = [Gpu(chance.random() < 0.5) for _ in range(4)]
    queue = queue_of(*gpus, budget=32)

    def call(number: int) -> None:
        values = [chance.randrange(1000, 100_000) for _ in range(chance.randrange(1, 90))]
        if number in (40, 80, 120):
            gpus[number // 40].dead = True
        if number % 50 == 7:
            gpus[0].most = chance.choice([4, 10**9])
        future = queue.submit(job_of(*values))
        if number % 17 == 3 and future.cancel():
            return
        assert future.result(30).rows[:, 0].tolist() == values

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(200))) == [None] * 200
    assert caplog.text.count("is left out") <= 3
    assert len(queue) == 0
    queue.close()
