"""The embedded vLLM engine, with the real vLLM: against the plain reference, under many callers, and at its end.

Most engines here compute in the test process, which starts in seconds; one has a process of its own, as by default.
"""

from __future__ import annotations

import asyncio
import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from qwen3_integrations.core.fingerprint import Fingerprint
from qwen3_integrations.core.types import Job, Prefix, Prompt, PromptPart
from qwen3_integrations.engines import Engine
from qwen3_integrations.engines.torch.engine import TorchEngine
from qwen3_integrations.engines.vllm.engine import VllmEngine
from qwen3_integrations.engines.vllm.logits import probabilities_of
from qwen3_integrations.engines.vllm.start_errors import StartErrors
from qwen3_integrations.errors import ConfigError, EngineClosed, EngineError, ModelNotFound, PromptTooLong
from tests.contract.cases import TOLERANCE, check_embeddings, check_scores
from tests.contract.label_cases import HEADS, check_head
from tests.models import declare, write_classifier
from tests.quantised import write_quantised
from tests.reference import reference_embeddings, reference_scores
from tests.texts import HOSTILE, PLAIN

pytest.importorskip("vllm")

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

FAST = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024}
CALLERS = 64


def open_vllm(task, folder, **options):
    return VllmEngine(task, str(folder), **{**FAST, **options})


@pytest.fixture(scope="module")
def here():
    """Engines compute in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        yield


@pytest.fixture(scope="module")
def embedding(here, random_embedder):
    engine = open_vllm("embed", random_embedder)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reranking(here, random_reranker):
    """Open at the same time as `embedding`."""
    engine = open_vllm("rerank", random_reranker)
    yield engine
    engine.close()


def prompts_of(*lists):
    """Prompts of bare ids."""
    return tuple(
        Prompt(Prefix("", np.empty(0, np.int32)), PromptPart("", np.asarray(ids, np.int32)), PromptPart("", np.empty(0, np.int32)))
        for ids in lists
    )


def test_embeddings_equal_the_reference(embedding, random_embedder):
    check_embeddings(embedding, random_embedder)


def test_scores_equal_the_reference(reranking, random_reranker):
    check_scores(reranking, random_reranker)


@pytest.mark.parametrize("size", ["tiny", "4B", "8B"])
def test_other_shapes_equal_the_reference(here, size, tiny_embedder, tiny_reranker, random_models):
    """The larger reranker has an output head of its own, not the embedding table's."""
    folder = tiny_embedder if size == "tiny" else random_models["embed", size]
    with_engine(open_vllm("embed", folder), lambda engine: check_embeddings(engine, folder))
    folder = tiny_reranker if size == "tiny" else random_models["rerank", size]
    with_engine(open_vllm("rerank", folder), lambda engine: check_scores(engine, folder))


def with_engine(engine, check):
    check(engine)
    engine.close()


@pytest.mark.parametrize(
    "said", [{}, {"problem_type": "regression"}, {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}]
)
def test_a_sequence_classification_conversion_gives_the_original_scores(here, random_reranker, tmp_path, said):
    """Whatever its config says about activations."""
    folder = write_classifier(tmp_path / "converted", random_reranker)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | said))
    with_engine(open_vllm("rerank", folder), lambda engine: check_scores(engine, random_reranker))


KINDS = ("one label, not declared", "one label, with a bias", "two labels, not declared", "yes and no, with a bias")


@pytest.mark.parametrize("head", KINDS)
def test_a_stored_head_is_read_as_its_labels_say(here, random_reranker, tmp_path, head):
    folder = write_classifier(tmp_path / "converted", random_reranker, **HEADS[head])
    with_engine(open_vllm("rerank", folder), lambda engine: check_head(folder, random_reranker, engine, HEADS[head]))


def test_the_stored_head_is_read_independently_of_other_config_fields(here, random_reranker, tmp_path):
    """With these fields, vLLM would make the head from other rows: here from the wrong ones."""
    folder = write_classifier(tmp_path / "converted", random_reranker)
    declare(folder, classifier_from_token=["yes", "no"], method="from_2_way_softmax", is_original_qwen3_reranker=True)
    with_engine(open_vllm("rerank", folder), lambda engine: check_scores(engine, random_reranker))


def test_a_head_that_does_not_fit_its_labels_is_refused_before_vllm_starts(random_reranker, tmp_path):
    folder = write_classifier(tmp_path / "converted", random_reranker, ["no", "yes"], ["yes"])
    with pytest.raises(ConfigError, match=r"2 labels \(id2label\), but score.weight has 1 rows"):
        open_vllm("rerank", folder)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_quantised_checkpoints_are_read_as_what_they_store(here, random_models, tmp_path, method):
    """By vLLM's own kernels for 4 bits, which compute in bfloat16. Its CPU build has them only for processors with AVX-512."""
    folder, full = write_quantised(tmp_path / "embed", random_models["embed", "4B"], method)
    if "avx512f" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
        with pytest.raises(ConfigError, match=rf"quantised \({method}\).*AVX-512"):
            open_vllm("embed", folder, dtype="bfloat16")
        return
    engine = open_vllm("embed", folder, dtype="bfloat16")
    rows = Embedder(engine).embed_documents(PLAIN)
    engine.close()
    assert (rows * reference_embeddings(full, PLAIN)).sum(axis=1).min() >= 0.9998
    assert (rows * reference_embeddings(random_models["embed", "4B"], PLAIN)).sum(axis=1).min() < 0.99  # 4 bits do change a random model
    folder, full = write_quantised(tmp_path / "rerank", random_models["rerank", "4B"], method)
    engine = open_vllm("rerank", folder, dtype="bfloat16")
    pairs = [("How do I sort a list?", text) for text in PLAIN]
    scores = Reranker(engine).score(pairs)
    engine.close()
    assert np.abs(scores - reference_scores(full, pairs)).max() <= 0.05  # random heads spread their logits far wider than trained ones


def test_long_prompts_are_read_in_several_passes(here, random_embedder, random_reranker):
    """Chunked prefill, and heads that come out of the prefix cache."""
    options = {"max_num_batched_tokens": 64, "max_num_seqs": 4, "block_size": 32, "enable_chunked_prefill": True}
    texts = ["many plain words " * count for count in (1, 10, 40, 60)]
    with_engine(
        open_vllm("embed", random_embedder, **options),
        lambda engine: close_to(Embedder(engine).embed_documents(texts), reference_embeddings(random_embedder, texts)),
    )
    pairs = [("the one query", text) for text in texts * 2]
    with_engine(
        open_vllm("rerank", random_reranker, **options),
        lambda engine: close_to(Reranker(engine).score(pairs), reference_scores(random_reranker, pairs)),
    )


def close_to(ours, reference):
    assert ours.shape == reference.shape
    assert np.abs(ours - reference).max() < TOLERANCE


def test_it_has_the_protocol_of_engines(embedding, reranking, random_embedder):
    assert isinstance(embedding, Engine)
    assert (embedding.backend, embedding.task, embedding.model) == ("vllm", "embed", str(random_embedder))
    assert (embedding.max_tokens, embedding.dimensions, reranking.dimensions) == (1024, 64, None)
    assert repr(embedding) == f"VllmEngine('embed', {str(random_embedder)!r}, max_tokens=1024)"


def test_an_empty_job_is_an_empty_reply(embedding, reranking):
    assert Embedder(embedding).embed_documents([]).shape == (0, 64)
    assert Reranker(reranking).score([]).shape == (0,)


def test_the_plan_is_what_vllm_gets(embedding):
    plan = embedding.memory
    config = embedding._worker._engine.vllm_config
    assert config.cache_config.kv_cache_memory_bytes == plan.cache_bytes
    assert config.scheduler_config.max_num_batched_tokens == plan.pass_tokens
    assert config.cache_config.num_gpu_blocks * config.cache_config.block_size == plan.cache_tokens
    assert plan.cache_tokens >= 4 * 1024
    assert plan.token_bytes == 2 * 2 * 2 * 32 * 4


def test_tokens_are_counted(embedding):
    reply = embedding.run(Job("embed", prompts_of([1, 2, 3], [4, 5]), 1024))
    assert reply.tokens == (3, 2)
    assert reply.total_tokens == 5
    assert reply.max_tokens is None
    assert reply.truncated == frozenset()


# Many callers


def test_threads_at_once(embedding, reranking, random_embedder, random_reranker):
    texts = [f"{PLAIN[number % len(PLAIN)]} {number}" for number in range(3 * CALLERS)]
    pairs = [(f"query {number}", text) for number, text in enumerate(texts)]
    vectors, scores = reference_embeddings(random_embedder, texts), reference_scores(random_reranker, pairs)
    embedder, reranker = Embedder(embedding), Reranker(reranking)
    with ThreadPoolExecutor(CALLERS) as pool:
        embedded = [pool.submit(embedder.embed_documents, texts[at : at + 3]) for at in range(0, len(texts), 3)]
        scored = [pool.submit(reranker.score, pairs[at : at + 3]) for at in range(0, len(texts), 3)]
        close_to(np.concatenate([future.result() for future in embedded]), vectors)
        close_to(np.concatenate([future.result() for future in scored]), scores)


async def test_tasks_at_once_in_a_running_loop(embedding, reranking, random_embedder, random_reranker):
    texts = [f"{HOSTILE[number % len(HOSTILE)]} {number}" for number in range(CALLERS)]
    pairs = [("the query", text) for text in texts]
    embedder, reranker = Embedder(embedding), Reranker(reranking)
    rows = await asyncio.gather(*(embedder.aembed_documents([text]) for text in texts), *(reranker.ascore([pair]) for pair in pairs))
    close_to(np.concatenate(rows[:CALLERS]), reference_embeddings(random_embedder, texts))
    close_to(np.concatenate(rows[CALLERS:]), reference_scores(random_reranker, pairs))
    close_to(embedder.embed_documents(texts[:2]), reference_embeddings(random_embedder, texts[:2]))  # sync, as in a notebook's cell


def test_callers_share_vllms_batches(embedding, monkeypatch):
    """One step of the engine finishes prompts of several callers: nothing stands between them."""
    engine = embedding._worker._engine
    together = []
    step = engine.step

    def counted():
        outputs = step()
        together.append(len(outputs))
        return outputs

    monkeypatch.setattr(engine, "step", counted)
    prompts = [prompts_of(list(range(1, 9)) * 4) for _ in range(CALLERS)]
    with ThreadPoolExecutor(CALLERS) as pool:
        list(pool.map(lambda own: embedding.run(Job("embed", own, 1024)), prompts))
    assert sum(together) == CALLERS
    assert max(together) > 1


def test_the_slices_of_a_call_are_one_caller_among_others(embedding, monkeypatch):
    engine, added, go = embedding._worker._engine, [], threading.Event()
    add, step = engine.add_request, engine.step

    def noted(name, prompt, params):
        added.append(prompt["prompt_token_ids"][0])
        return add(name, prompt, params)

    monkeypatch.setattr(engine, "add_request", noted)
    monkeypatch.setattr(engine, "step", lambda: (go.wait(60), step())[1])

    def submit(number, count, fairness_key):
        return embedding._worker.submit([np.full(4, number, dtype=np.int32)] * count, fairness_key)

    waiting = [submit(1, 1, "before")]
    while not added:
        time.sleep(0.001)
    waiting += [submit(number, 100, "call") for number in (2, 3, 4)] + [submit(9, 100, "other")]
    go.set()
    assert [len(future.result(60).rows) for future in waiting] == [1, 100, 100, 100, 100]
    assert len(added) == 401
    assert added.index(3) > len(added) - added[::-1].index(9) - 1  # the other's last, before the call's second slice


async def test_a_cancelled_task_leaves_the_engine(embedding, random_embedder):
    big = Job("embed", prompts_of(*[[number % 1000, *range(500)] for number in range(1500)]), 1024)
    task = asyncio.create_task(embedding.arun(big))
    while not embedding._worker._in_flight:  # noqa: ASYNC110  vLLM's thread has no event for this
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    close_to(await Embedder(embedding).aembed_documents(["after it"]), reference_embeddings(random_embedder, ["after it"]))
    assert embedding._worker._engine.get_num_unfinished_requests() == 0
    assert not embedding._worker._in_flight


# Bad jobs and bad settings


def test_a_bad_job_fails_alone(embedding, random_embedder):
    embedder = Embedder(embedding)
    bad = {
        "contains a token id outside": prompts_of([1, 2], [1, 10**6]),
        "has 1025 tokens": prompts_of([5] * 1025),
        "has no token ids": prompts_of([]),
        "not for rerank": prompts_of([1]),
    }
    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(embedder.embed_documents, [f"text {number}"]) for number in range(8)]
        failing = {said: pool.submit(embedding.run, Job("rerank" if "rerank" in said else "embed", own, 1024)) for said, own in bad.items()}
        for said, future in failing.items():
            with pytest.raises(PromptTooLong if "1025" in said else EngineError, match=said):
                future.result()
        close_to(
            np.concatenate([future.result() for future in good]), reference_embeddings(random_embedder, [f"text {n}" for n in range(8)])
        )


def test_a_prompt_that_vllm_refuses_fails_alone(embedding, random_embedder):
    """Past this package's own checks."""
    half = [np.asarray(ids, dtype=np.int32) for ids in ([1, 2, 3], [5] * 2000, [1, 2])]
    refused = embedding._worker.submit(half, "whose it is")
    fine = Embedder(embedding).embed_documents(["fine"])
    with pytest.raises(
        EngineError, match=r"item 1 of this call: vLLM refused the prompt \(2000 tokens\) for .*the maximum model length of 1024"
    ):
        refused.result()
    close_to(fine, reference_embeddings(random_embedder, ["fine"]))
    assert embedding._worker._engine.get_num_unfinished_requests() == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_model_length": 512}, "max_model_length is not an option of the vllm engine, did you mean 'max_model_len'"),
        ({"tensor_parallel": 2}, "did you mean 'tensor_parallel_size'"),
        ({"trust_remote_code": True}, "trust_remote_code is never needed"),
        ({"runner": "generate"}, "runner is set by the vllm engine itself: this engine pools as"),
        ({"pooler_config": None}, "pooler_config is set by the vllm engine itself"),
        ({"tokenizer": "other"}, "tokenizer is set by the vllm engine itself"),
        ({"data_parallel_size": 2}, "one engine is one replica"),
        ({"load_format": "pt"}, "pickled"),
        ({"hf_overrides": {"architectures": ["X"]}}, "hf_overrides must not contain 'architectures'"),
        ({"hf_overrides": lambda config: config}, "must be a dictionary"),
        ({"concurrency": 0}, "concurrency must be a whole number"),
        ({"max_model_len": 2.5}, "max_model_len must be a whole number of at least 1, or None, not 2.5"),
        ({"max_num_seqs": True}, "max_num_seqs must be a whole number"),
        ({"kv_cache_memory_bytes": "1"}, "kv_cache_memory_bytes must be a whole number"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size must be a whole number"),
        ({"gpu_memory_utilization": 2}, "gpu_memory_utilization must be a number in"),
        ({"dtype": "int3"}, "^dtype is refused by vLLM for .*embed.*: Input should be 'auto'"),
        ({"max_model_len": 10**6}, r"vLLM refused the options for .*embed.*: .*max_model_len \(1000000\) is greater"),
        ({"kv_cache_memory_bytes": 1 << 50}, r"needs 1048577\.\d\d GiB: weights .* but this machine has .* GiB free\. concurrency="),
    ],
)
def test_settings_that_cannot_work_are_refused(here, random_embedder, options, said):
    with pytest.raises(ConfigError, match=said):
        open_vllm("embed", random_embedder, **options)


def test_an_unknown_option_is_refused_by_open_engine_too():
    with pytest.raises(ConfigError, match="did you mean 'enforce_eager'"):
        open_engine("embed", "qwen3-tiny-demo", backend="vllm", enforce_eagre=True)


def test_pickled_weights_are_refused(here, random_embedder, tmp_path):
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((random_embedder / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelNotFound, match="no safetensors weights"):
        open_vllm("embed", tmp_path)


def test_harmless_overrides_and_a_given_cache_are_passed_on(here, random_reranker):
    engine = open_vllm("rerank", random_reranker, hf_overrides={"rope_theta": 1000000}, kv_cache_memory_bytes=16 << 20, max_num_seqs=8)
    config = engine._worker._engine.vllm_config
    assert (engine.memory.cache_bytes, config.cache_config.kv_cache_memory_bytes, config.scheduler_config.max_num_seqs) == (
        16 << 20,
        16 << 20,
        8,
    )
    check_scores(engine, random_reranker)
    engine.close()


def test_usage_reports_are_off_unless_the_environment_speaks(here, random_embedder, monkeypatch):
    from qwen3_integrations.engines.vllm import start as vllm_start

    for name in ("VLLM_NO_USAGE_STATS", "VLLM_DO_NOT_TRACK", "DO_NOT_TRACK"):
        monkeypatch.delenv(name, raising=False)
    with vllm_start._no_usage_reports():
        assert os.environ["VLLM_NO_USAGE_STATS"] == "1"
    assert "VLLM_NO_USAGE_STATS" not in os.environ
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "0")
    with vllm_start._no_usage_reports():
        assert os.environ["VLLM_NO_USAGE_STATS"] == "0"
    assert os.environ["VLLM_NO_USAGE_STATS"] == "0"


@pytest.mark.parametrize("labels", [1, 2])
def test_probabilities_are_exact_at_the_ends(labels):
    difference = np.asarray([-1000, -30, -1, 0, 1, 30, 1000], dtype=np.float32)
    logits = difference[:, None] if labels == 1 else np.stack([-difference / 2, difference / 2], axis=1)
    scores = probabilities_of(logits)
    assert scores.dtype == np.float32
    expected = [0, np.exp(-30.0), 1 / (1 + np.e), 0.5, np.e / (1 + np.e), 1, 1]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


# The end


def test_close_and_open_again(here, random_embedder, embedding):
    """Next to another engine of this process, which stays."""
    expected = reference_embeddings(random_embedder, PLAIN)
    for _ in range(2):
        engine = open_vllm("embed", random_embedder)
        close_to(Embedder(engine).embed_documents(PLAIN), expected)
        engine.close()
        engine.close()
        with pytest.raises(EngineClosed, match=r"is closed. Open it again"):
            Embedder(engine).embed_documents(["late"])
    close_to(Embedder(embedding).embed_documents(PLAIN), expected)


def test_vllm_reads_its_variables_at_each_start(here, random_embedder, embedding, monkeypatch):
    """VLLM keeps the values that it read when the first engine of a process started; a file that one names may be gone by now."""
    from vllm import envs

    assert embedding.alive
    open_vllm("embed", random_embedder).close()
    assert (envs.VLLM_LOGGING_CONFIG_PATH, envs.VLLM_ALLOW_LONG_MAX_MODEL_LEN) == (None, False)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    open_vllm("embed", random_embedder).close()
    assert envs.VLLM_LOGGING_LEVEL == "ERROR"


def test_close_ends_the_jobs_that_wait(here, random_embedder):
    engine = open_vllm("embed", random_embedder)
    prompts = prompts_of(*[[number % 1000, *range(500)] for number in range(1500)])
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(engine.run, Job("embed", prompts, 1024)) for _ in range(4)]
        while len(engine._worker._waiting) < 3:
            pass
        engine.close()
        for future in waiting:
            with pytest.raises(EngineClosed):
                future.result()


def test_an_engine_that_nobody_holds_closes_itself(here, random_embedder):
    engine = open_engine("embed", str(random_embedder), backend="vllm", **FAST)
    again = open_engine("embed", str(random_embedder), backend="vllm", **FAST)
    worker = engine.engine._worker
    assert again.engine._worker is worker
    engine.close()
    assert worker._thread.is_alive()
    del again
    worker._thread.join(30)
    assert not worker._thread.is_alive()


def test_memory_is_given_back(here, random_embedder):
    import gc
    import weakref

    engine = open_vllm("embed", random_embedder)
    runner = engine._worker._engine.engine_core.engine_core.model_executor.driver_worker.worker.model_runner
    model, caches = weakref.ref(runner.model), [weakref.ref(cache) for cache in runner.kv_caches]
    assert caches
    del runner
    engine.close()
    gc.collect()
    assert model() is None
    assert [cache() for cache in caches if cache() is not None] == []


def test_a_dead_engine_is_not_shared_any_more(here, random_embedder, monkeypatch):
    """The step fails here as it would for lack of memory, which this machine can't be made to lack."""
    settings = {"backend": "vllm", **FAST}
    engine = open_engine("embed", str(random_embedder), **settings)
    monkeypatch.setattr(engine.engine._worker._engine, "step", lambda: (_ for _ in ()).throw(MemoryError("no more")))
    for _ in range(2):
        with pytest.raises(EngineError, match=r"died \(MemoryError: no more\).*Open the engine again"):
            Embedder(engine).embed_documents(["a text"])
    again = open_engine("embed", str(random_embedder), **settings)
    close_to(Embedder(again).embed_documents(PLAIN), reference_embeddings(random_embedder, PLAIN))
    engine.close()
    close_to(Embedder(again).embed_documents(PLAIN), reference_embeddings(random_embedder, PLAIN))
    again.close()


def test_a_process_of_its_own_and_its_death(tiny_embedder, monkeypatch):
    """The default: right numbers; when the process is killed, those who wait and those who come learn of it; a new one works."""
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    before = set(multiprocessing.active_children())
    engine = open_vllm("embed", tiny_embedder)
    (process,) = set(multiprocessing.active_children()) - before
    embedder = Embedder(engine)
    close_to(embedder.embed_documents(PLAIN), reference_embeddings(tiny_embedder, PLAIN))
    with ThreadPoolExecutor(4) as pool:  # a second one, whose cache is too small, while the first has work
        load = [pool.submit(embedder.embed_documents, PLAIN * 50) for _ in range(4)]
        with pytest.raises(EngineError, match=r"vLLM did not start for .*: ValueError: .*(cache|blocks|KV)"):
            open_vllm("embed", tiny_embedder, kv_cache_memory_bytes=4096)
        assert all(len(done.result()) == 50 * len(PLAIN) for done in load)
    assert not any(isinstance(each, StartErrors) for each in logging.getLogger("vllm").handlers)
    os.kill(process.pid, signal.SIGSTOP)  # so that the callers are sure to wait
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(embedder.embed_documents, [f"text {number}"]) for number in range(8)]
        while not engine._worker._in_flight:
            pass
        os.kill(process.pid, signal.SIGKILL)
        for future in waiting:
            with pytest.raises(EngineError, match="died"):
                future.result()
    with pytest.raises(EngineError, match=r"died.*Open the engine again"):
        embedder.embed_documents(["late"])
    assert not engine.alive
    engine.close()


A_PROGRAM = """
import threading, time
import zmq
from qwen3_integrations import Embedder, open_engine

if __name__ == "__main__":
    options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024}
    engine = open_engine("embed", "qwen3-tiny-demo", backend="vllm", **options)
    (outputs,) = (thread for thread in threading.enumerate() if thread.name == "EngineCoreOutputQueueThread")
    Embedder(engine).embed_documents(["one", "two"])
    close = zmq.Socket.close

    def slow(socket, *given, **named):
        if threading.current_thread() is outputs:
            time.sleep(1)
        close(socket, *given, **named)

    zmq.Socket.close = slow
    engine.close()
    print("runs on:", outputs.is_alive())
"""


def test_vllm_s_thread_has_ended_with_close(tmp_path):
    """Its last tensors, let go while Python ends, would abort the program: "terminate called without an active exception"."""
    (tmp_path / "program.py").write_text(A_PROGRAM)
    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    command = [sys.executable, str(tmp_path / "program.py")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "runs on: False"


IN_A_NOTEBOOK = [
    """
    from qwen3_integrations import Embedder, open_engine

    def opened():
        options = {"dtype": "float32", "enforce_eager": True, "max_model_len": 1024, "kv_cache_memory_bytes": 64 << 20}
        return open_engine("embed", FOLDER, backend="vllm", **options)

    engine = opened()
    print(Embedder(engine).embed_documents(["one", "two"]).tolist())
    """,
    "print((await Embedder(engine).aembed_documents(['one', 'two'])).tolist())",
    "again = opened()\nprint('shared', again.engine is engine.engine)\nagain.close()\nengine.close()",
]


def test_a_notebook_s_kernel_whose_loop_runs(random_embedder):
    """Cells run inside a running event loop, in a kernel that forks and imports differently than a program."""
    import nbclient
    import nbformat

    cells = [nbformat.v4.new_code_cell(textwrap.dedent(cell).replace("FOLDER", repr(str(random_embedder)))) for cell in IN_A_NOTEBOOK]
    notebook = nbclient.NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=300, kernel_name="python3").execute()
    texts = ["".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout") for cell in notebook.cells]
    first, second, third = ([line for line in text.splitlines() if line.startswith(("[[", "shared"))] for text in texts)  # vLLM writes too
    sync, native = (np.asarray(json.loads(lines[0])) for lines in (first, second))
    expected = reference_embeddings(random_embedder, ["one", "two"])
    assert np.abs(sync - expected).max() < TOLERANCE
    assert np.abs(native - expected).max() < TOLERANCE
    assert third == ["shared True"]


def test_a_fingerprint_says_the_model_and_how_it_is_computed(embedding, random_embedder):
    torch = TorchEngine("embed", str(random_embedder), device="cpu")
    ours, other = embedding.fingerprint(), torch.fingerprint()
    torch.close()
    assert ours.identity == other.identity
    assert ours.numerics["dtype"] == "float32"
    assert ours.numerics["quantisation"] is None
    assert str(other.differences(ours)[0]) == "backend was 'torch' and is 'vllm'"
    assert Fingerprint.from_dict(json.loads(json.dumps(ours.to_dict()))) == ours
