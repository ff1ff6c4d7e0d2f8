"""Errors of the command line name the command's own flag, not the parameter's name in Python."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from qwen3_integrations.cli import app
from qwen3_integrations.cli.output import ExitCode


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["embed", "--backend", "fake", "--dimensions", "31"],
            "--dimensions must be a whole number from 32 to 1024 for Qwen/Qwen3-Embedding-0.6B on the fake engine, not 31",
        ),
        (["embed", "--backend", "vlm"], "--backend must be one of auto, http, vllm, torch, fake, not 'vlm', did you mean 'vllm'?"),
        (["embed", "--base-url", "ftp://x"], "--base-url must be an http or https address"),
        (["rerank", "q", "--model", "Qwen/Qwen3-Embedding-0.6B"], "--model Qwen/Qwen3-Embedding-0.6B is an embedding model"),
        (
            ["embed", "--base-url", "http://x", "--option", "concurrency=0"],
            "--option concurrency must be a whole number of at least 1, not 0",
        ),
        (["embed", "--backend", "fake", "--option", "dimension=3"], "--option dimension is not an option of the fake engine, did you mean"),
        (["embed", "--option", "device"], "--option must be NAME=VALUE, not 'device'"),
        (["embed", "--option", "model=x"], "--option can't set model. Use --model"),
        (["embed", "--instruction", "x"], "--instruction applies only to queries. Add --queries, or leave it out"),
        (["serve", "embed", "--gpu-memory-utilization", "2"], "--gpu-memory-utilization must be a number in (0, 1], not 2.0"),
        (["serve", "embed", "Qwen/Qwen3-Reranker-0.6B"], "model Qwen/Qwen3-Reranker-0.6B is a reranker"),  # an argument has no flag
        (["verify", "http://x?y"], "base_url http://x has a query or a fragment"),
    ],
)
def test_an_error_names_the_flag(words, message):
    result = CliRunner().invoke(app, words, input="text\n")
    assert result.stderr.startswith(f"error: {message}"), result.stderr
    assert result.exit_code == ExitCode.USAGE
