"""What a folder declares is honoured by every engine, or refused: the torch engine against sentence-transformers and transformers."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3_integrations import Embedder, Reranker, open_engine
from tests.contract.cases import TOLERANCE
from tests.declared import FOLDERS, PAIRS, QUERIES, expected

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """kind -> its folder."""
    root = tmp_path_factory.mktemp("declared")
    made = {}
    for number, (kind, declared) in enumerate(FOLDERS.items()):
        made[kind] = root / str(number)
        declared.write(made[kind])
    return made


def numbers(kind, engine):
    """What `expected` gives, from an engine."""
    declared = FOLDERS[kind]
    if declared.task == "rerank":
        return (Reranker(engine).score(PAIRS),)
    embedder = Embedder(engine)
    return embedder.embed_queries(list(QUERIES)), embedder.embed_documents([text for text in declared.texts if "<|" not in text])


@pytest.mark.parametrize("kind", FOLDERS)
def test_torch_gives_the_reference_numbers(kind, folders):
    with open_engine(FOLDERS[kind].task, str(folders[kind]), backend="torch", dtype="float32") as engine:
        for ours, reference in zip(numbers(kind, engine), expected(kind, folders[kind]), strict=True):
            assert ours.shape == reference.shape
            assert np.abs(ours - reference).max() < TOLERANCE


@pytest.mark.parametrize("kind", [kind for kind in FOLDERS if kind not in ("plain", "one label", "swapped labels")])
def test_each_declaration_changes_the_numbers(kind, folders):
    """Without this, a test above could pass although the declaration is ignored."""
    task = FOLDERS[kind].task
    plain = open_engine(task, "qwen3-tiny-demo", backend="torch", dtype="float32")
    with plain, open_engine(task, str(folders[kind]), backend="torch", dtype="float32") as engine:
        before, after = numbers(kind, plain), numbers(kind, engine)
    assert any(a.shape != b.shape or np.abs(a - b).max() > 10 * TOLERANCE for a, b in zip(after, before, strict=True))


def test_identities_differ(folders):
    digests = {}
    for kind, folder in folders.items():
        with open_engine(FOLDERS[kind].task, str(folder), backend="torch", dtype="float32") as engine:
            digests[kind] = engine.fingerprint().identity_digest
    assert len(set(digests.values())) == len(digests)
