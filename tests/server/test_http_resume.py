"""An interrupted `embed` over HTTP continues if its server has moved, but not if another model has the same name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from qwen3_integrations.cli import app
from tests.reference import reference_embeddings
from tests.server.fixtures import NAME
from tests.server.stand_in import StandIn

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(1200)]

TEXTS = [f"text number {number} of a list" for number in range(12)]


def test_a_server_may_move_and_its_model_may_not_change(faulty, tiny_embedder, tmp_path):
    path, out = tmp_path / "in.jsonl", tmp_path / "out.npy"
    lines = [json.dumps({"text": text}) for text in TEXTS]

    def run(url: str, *more: str):
        arguments = ["embed", str(path), "--output", str(out), "--model", NAME, "--base-url", url, "--chunk", "2", *more]
        return CliRunner().invoke(app, arguments)

    first, moved = faulty("embed"), faulty("embed")
    path.write_text("\n".join([*lines[:6], "broken", ""]))
    assert run(first.url).exit_code == 2
    path.write_text("\n".join([*lines, ""]))

    other = Path(shutil.copytree(tiny_embedder, tmp_path / tiny_embedder.name))
    tensors = load_file(other / "model.safetensors")
    save_file({name: tensor * 1.2 for name, tensor in tensors.items()}, other / "model.safetensors", metadata={"format": "pt"})
    with StandIn(other, name=NAME) as server:
        refused = run(server.url, "--option", "handshake=counts")
        assert refused.exit_code == 2, refused.output
        assert "the vector of a fixed text is" in refused.stderr
        assert "--restart" in refused.stderr

    done = run(moved.url)
    assert done.exit_code == 0, done.output
    assert "after 6 from an earlier run" in done.stderr
    np.testing.assert_allclose(np.load(out), reference_embeddings(tiny_embedder, TEXTS), atol=1e-5)
