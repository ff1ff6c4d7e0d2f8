"""A seeded campaign: 2,000 calls to a server with fifty kinds of fault and seventy hostile answers; 0 wrong, 0 hung, 0 outside the tree."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from qwen3_integrations import Embedder
from qwen3_integrations.errors import EngineError
from tests.unit.http_faults import FAULTS, HOSTILE
from tests.unit.http_words import WordServer, expected, opened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CALLS = 2000
THREADS = 16
ENGINES = 4
HUNG_S = 60.0
ALL = FAULTS | HOSTILE


def near(rows, texts) -> bool:
    right = expected(texts)
    return rows.shape == right.shape and np.allclose(rows, right, atol=1e-5)


class Campaign:
    """Spoils half of the requests, each with the next fault of a shuffled list, so that every fault occurs."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._names: list[str] = []
        self.happened: dict[str, int] = dict.fromkeys(ALL, 0)

    def __call__(self, call) -> bool:
        with self._lock:
            if self._random.random() < 0.5:
                return False
            if not self._names:
                self._names = list(ALL)
                self._random.shuffle(self._names)
            name = self._names.pop()
            self.happened[name] += 1
        try:
            ALL[name](call)
        except OSError:  # the client has left
            call.handler.close_connection = True
        return True


@pytest.mark.parametrize("seed", [15])
def test_no_call_is_wrong_hangs_or_leaves_the_tree(seed):
    campaign, wrong, right, failed = Campaign(seed), [], [], []

    def one(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        texts = [f"{number} text {rng.random()}" for _ in range(rng.choice([1, 1, 2, 5, 20]))]
        began = time.monotonic()
        try:
            rows = Embedder(engines[number % ENGINES]).embed_documents(texts)
        except EngineError as error:
            failed.append(error)
            if not str(error).isprintable() or len(str(error)) > 1500 or error.url is None or error.model != "q":
                wrong.append((number, "message", repr(error)[:300]))
            if error.index is not None and not 0 <= error.index < len(texts):
                wrong.append((number, "index", repr(error)[:300]))
            part = error.partial
            if part is not None and not near(part.rows, [texts[at] for at in part.which]):
                wrong.append((number, "partial", repr(error)[:300]))
        except BaseException as error:
            wrong.append((number, "outside the tree", repr(error)[:300]))
        else:
            right.append(number)
            if not near(rows, texts):
                wrong.append((number, "wrong rows", texts))
        if time.monotonic() - began > HUNG_S:
            wrong.append((number, "hung", time.monotonic() - began))

    with WordServer() as server:
        opens = [opened(server, timeout_s=1, max_retries=1, concurrency=4) for _ in range(ENGINES)]
        engines = [each.__enter__() for each in opens]
        for engine in engines:
            Embedder(engine).embed_documents(["a first text, so that the width is known"])
        server.spoil = campaign
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(one, range(CALLS)))
        finally:
            server.released.set()
            for each in opens:
                each.__exit__(None, None, None)
    assert wrong == []
    assert len(right) + len(failed) == CALLS
    assert len(right) > CALLS / 4
    assert len(server.asked) >= CALLS
    assert min(campaign.happened.values()) > 0
