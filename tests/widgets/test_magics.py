"""The magics in a real IPython shell: values come back, errors are one line and a hint, every magic has help."""

from __future__ import annotations

import atexit
import os
import sys
import warnings

import numpy as np
import pytest

from qwen3_integrations import Embedder, Ranking, open_engine
from qwen3_integrations.engines import sharing
from qwen3_integrations.errors import ConfigError, ServerUnreachable
from qwen3_integrations.serving import Server, ServerStatus, servers
from qwen3_integrations.serving.records import FOLDER_VARIABLE

MAGICS = {"line": ["qwen3_serve", "qwen3_status", "qwen3_stop"], "cell": ["qwen3_rank", "qwen3_embed"]}
DOCUMENTS = "Remove a file or a directory from the disk.\n\nCopy data from one file to another file.\n   \nThe weather in the north.\n"
TINY = "--model qwen3-tiny-demo --backend torch"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of server records only for these tests."""
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(tmp_path_factory.mktemp("state"))
    yield
    os.environ.pop(FOLDER_VARIABLE) if before is None else os.environ.update({FOLDER_VARIABLE: before})


@pytest.fixture(scope="module")
def interactive(folder, tmp_path_factory):
    before, program = os.environ.get("IPYTHONDIR"), sys.modules["__main__"]
    os.environ["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config, colors="nocolor")
    yield shell
    shell.atexit_operations()
    atexit.unregister(shell.atexit_operations)
    sys.modules["__main__"] = program  # the shell had put its own there; processes that are spawned read this one
    os.environ.pop("IPYTHONDIR") if before is None else os.environ.update({"IPYTHONDIR": before})


@pytest.fixture
def shell(interactive):
    interactive.run_line_magic("reload_ext", "qwen3_integrations")
    yield interactive
    interactive.run_line_magic("unload_ext", "qwen3_integrations")


def run(shell, code):
    """A cell's value; errors are raised as the cell raised them."""
    done = shell.run_cell(code)
    done.raise_error()
    return done.result


def refused(shell, code, capsys):
    """The error of a cell, and its shown text."""
    done = shell.run_cell(code)
    assert done.error_in_exec is not None
    out, err = capsys.readouterr()
    return done.error_in_exec, [line for line in (err + out).splitlines() if line.strip() and "Loading weights" not in line]


def test_rank_gives_a_ranking_of_the_cells_lines(shell):
    ranking = run(shell, f"%%qwen3_rank how do I copy a file {TINY} --top-n 2 -o mine\n{DOCUMENTS}")
    assert isinstance(ranking, Ranking)
    assert ranking.query == "how do I copy a file"
    assert ranking[0].document == "Copy data from one file to another file."
    assert (len(ranking), len(ranking.dropped)) == (2, 1)
    assert shell.user_ns["mine"] is ranking
    assert run(shell, "mine.query") == ranking.query


def test_quotes_variables_and_apostrophes(shell):
    shell.user_ns["wanted"] = "what's in {braces} & <b>"
    cell = f'%%qwen3_rank {{wanted}} {TINY} --instruction "Find what\'s asked for" --threshold 0.0\none\ntwo'
    ranking = run(shell, cell)
    assert ranking.query == shell.user_ns["wanted"]
    assert ranking.instruction == "Find what's asked for"
    assert ranking.score_threshold == 0.0


def test_paragraphs(shell):
    ranking = run(shell, f"%%qwen3_rank q {TINY} --paragraphs\nfirst line\nsecond line\n \nanother text\n\n\n")
    assert sorted(hit.document for hit in ranking) == ["another text", "first line\nsecond line"]


def test_embed_gives_the_very_vectors(shell):
    vectors = run(shell, f"%%qwen3_embed {TINY} --dimensions 64 -o vectors\n{DOCUMENTS}")
    lines = [line for line in DOCUMENTS.splitlines() if line.strip()]
    with open_engine("embed", "qwen3-tiny-demo", backend="torch") as engine:
        embedder = Embedder(engine, dimensions=64)
        assert np.abs(vectors - embedder.embed_documents(lines)).max() < 1e-6
        queries = run(shell, f"%%qwen3_embed {TINY} --dimensions 64 --queries\n{DOCUMENTS}")
        assert np.abs(queries - embedder.embed_queries(lines)).max() < 1e-6
    assert shell.user_ns["vectors"] is vectors


def test_an_engine_stays_open_for_the_next_cell_and_closes_with_the_magics(shell):
    others = set(sharing._open)  # engines of earlier tests that are not collected yet
    held = lambda: {key[:3] for key in sharing._open if key not in others}  # noqa: E731
    cell = "%%qwen3_embed --model {} --backend fake\ntext"
    run(shell, cell.format("qwen3-tiny-demo"))
    assert held() == {("fake", "embed", "qwen3-tiny-demo")}
    engine = next(shared.engine.result() for key, shared in sharing._open.items() if key not in others)
    run(shell, cell.format("qwen3-tiny-demo"))
    assert len(engine.jobs) == 2
    run(shell, cell.format("Qwen/Qwen3-Embedding-0.6B"))
    assert held() == {("fake", "embed", "Qwen/Qwen3-Embedding-0.6B")}
    shell.run_line_magic("reload_ext", "qwen3_integrations")
    assert held() == set()


@pytest.mark.parametrize("name", MAGICS["line"] + MAGICS["cell"])
def test_every_magic_has_help(shell, name):
    mark = "%" if name in MAGICS["line"] else "%%"
    about = shell.object_inspect(f"{mark}{name}")
    assert about["found"]
    help_text = about["docstring"]
    assert f"{mark}{name}" in help_text
    assert all(len(line) < 130 for line in help_text.splitlines())
    if name != "qwen3_stop":
        assert "The result is" in help_text or "Start a server" in help_text
    shown = shell.inspector._mime_format(help_text)
    assert "text/plain" in shown


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%%qwen3_rank --topn 3\ntext", "UsageError: unrecognized arguments: --topn. %%qwen3_rank? shows all arguments"),
        ("%%qwen3_rank\ntext", "UsageError: the following arguments are required: query. %%qwen3_rank? shows all arguments"),
        ('%%qwen3_rank "abc\ntext', "UsageError: a double quote is not closed. %%qwen3_rank? shows all arguments"),
        ("%%qwen3_rank q -o 1a\ntext", "UsageError: argument -o/--output: '1a' is not a variable's name. %%qwen3_rank? shows"),
        ("%%qwen3_embed --option device\ntext", "UsageError: argument --option: 'device' is not NAME=VALUE."),
        ("%qwen3_serve emb", "UsageError: argument task: invalid choice: 'emb'"),
    ],
)
def test_wrong_use_is_one_line(shell, capsys, cell, words):
    _, shown = refused(shell, cell, capsys)
    (line,) = shown
    assert line.startswith(words)


@pytest.mark.parametrize(
    ("cell", "words", "hint"),
    [
        (f"%%qwen3_rank q {TINY} --top-n 0\ntext", "ConfigError: top_n must be a whole number", "%%qwen3_rank? shows all arguments"),
        (f"%%qwen3_rank q {TINY}\n \n\n", "InputError: the cell contains no text", "%%qwen3_rank?"),
        ("%%qwen3_embed --backend vlm\ntext", "ConfigError: backend must be one of auto, ", "%%qwen3_embed?"),
        (
            f"%%qwen3_embed {TINY} --option devise=cpu\ntext",
            "ConfigError: devise is not an option of the torch engine, did you mean",
            "%%q",
        ),
        ("%%qwen3_embed --option model=x\ntext", "ConfigError: --option can't set model, which has an argument", "%%qwen3_embed?"),
        ("%%qwen3_embed --option api_key=x\ntext", "ConfigError: --option can't set api_key, since it would be saved", "%%q"),
        ("%qwen3_serve embed --option port=8", "ConfigError: --option can't set port, which has an argument", "%qwen3_serve?"),
        ("%%qwen3_embed --instruction x\ntext", "ConfigError: --instruction applies only to queries", "%%qwen3_embed?"),
        ("%%qwen3_embed --server nobody\ntext", "ConfigError: no server 'nobody' is running here", "%%qwen3_embed?"),
        ("%%qwen3_embed --server nobody --model x\ntext", "ConfigError: --server determines the model", "%%qwen3_embed?"),
        ("%qwen3_status nobody", "ConfigError: no server 'nobody' is running here. Running: none", "%qwen3_status?"),
        ("%qwen3_stop", "ConfigError: 0 servers are running here", "%qwen3_stop?"),
        ("%qwen3_serve embed --option concurency=8", "ConfigError: concurency is not an option of a server, did you mean", "%qwen3_serve?"),
        ("%qwen3_serve embed --port 70000", "ConfigError: port must be a whole number", "%qwen3_serve? shows all arguments"),
    ],
)
def test_an_error_is_one_line_and_a_hint(shell, capsys, cell, words, hint):
    error, shown = refused(shell, cell, capsys)
    assert isinstance(error, ValueError)
    line, second = shown
    assert line.startswith(words)
    assert second.startswith(f"hint: {hint}")
    assert not any("Traceback" in each for each in shown)


def test_a_server_that_is_not_there(shell, capsys):
    error, shown = refused(shell, "%%qwen3_embed --base-url http://127.0.0.1:9 --option max_retries=0\ntext", capsys)
    assert isinstance(error, ServerUnreachable)
    assert shown[-1] == "hint: %qwen3_status lists the servers that run on this machine"
    assert len(shown) == 2


def test_no_servers(shell):
    statuses = run(shell, "%qwen3_status")
    assert statuses == ()
    assert repr(statuses) == "no servers run here; %qwen3_serve starts one"
    assert run(shell, "%qwen3_stop --all") == ()


def test_loading_twice_and_unloading(shell):
    shell.run_line_magic("reload_ext", "qwen3_integrations")
    assert all(name in shell.magics_manager.magics[kind] for kind, names in MAGICS.items() for name in names)
    shell.run_line_magic("unload_ext", "qwen3_integrations")
    assert not any(name in shell.magics_manager.magics[kind] for kind, names in MAGICS.items() for name in names)
    shell.run_line_magic("load_ext", "qwen3_integrations")
    assert isinstance(run(shell, "%qwen3_status"), tuple)


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_from_start_to_stop(shell, monkeypatch, capfd):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    quick = "--dtype float32 --max-tokens 1024 --option engine=torch --option max_num_batched_tokens=512 --timeout 300 -- --access-log"
    try:
        server = run(shell, f"server = %qwen3_serve embed qwen3-tiny-demo {quick}\nserver")
        assert isinstance(server, Server)
        assert server.command[-1] == "--access-log"
        assert server.program.startswith("qwen3-integrations ")
        assert "answering" in capfd.readouterr().err
        (status,) = run(shell, "%qwen3_status")
        assert isinstance(status, ServerStatus)
        assert (status.state, status.name) == ("ready", server.name)
        assert server.name in run(shell, "%qwen3_status")._repr_html_()
        assert run(shell, f"%qwen3_status {server.url}").name == server.name
        assert run(shell, f"%qwen3_serve embed qwen3-tiny-demo {quick}").name == server.name
        vectors = run(shell, f"%%qwen3_embed --server {{server.name}}\n{DOCUMENTS}")
        here = run(shell, f"%%qwen3_embed {TINY}\n{DOCUMENTS}")
        assert np.abs(vectors - here).max() < 1e-5
        with pytest.raises(ConfigError, match=rf"no server '{server.name}' is running here"):  # it is not a reranker
            run(shell, f"%%qwen3_rank q --server {server.name}\n{DOCUMENTS}")
        assert run(shell, "%qwen3_stop") == (server.name,)
        assert run(shell, "%qwen3_status") == ()
        assert server.state == "stopped"
    finally:
        for left in servers():
            left.stop()


def test_embedded_vectors_show_themselves_in_one_line(shell):
    vectors = run(shell, f"%%qwen3_embed {TINY}\none text\nanother text")
    assert repr(vectors).startswith("Vectors(2 texts x ")
    assert len(repr(vectors).splitlines()) == 1
    assert len(repr(vectors)) < 130
    assert vectors.dtype == np.float32
    plain = [vectors @ vectors.T, vectors[0], vectors * 2, vectors[:1], np.asarray(vectors)]
    assert [type(each) for each in plain] == [np.ndarray] * 5
    assert isinstance(vectors.sum(), np.float32)
    assert run(shell, f"%%qwen3_embed {TINY}\none").shape[0] == 1


@pytest.mark.parametrize(
    ("line", "among", "not_among"),
    [
        ("%%qwen3_rank q --", ["--top-n", "--threshold", "--model", "--backend"], ["--queries", "--help"]),
        ("%%qwen3_rank q --top-n 3 --to", [], ["--top-n"]),
        ("%%qwen3_rank q --backend ", ["auto", "torch", "fake"], ["--model"]),
        ("%%qwen3_rank q --backend to", ["torch"], ["auto"]),
        ("%%qwen3_embed --model qwen", ["qwen3-tiny-demo"], []),
        ("%%qwen3_embed --model Qwen/", ["Qwen/Qwen3-Embedding-0.6B"], ["Qwen/Qwen3-Reranker-0.6B"]),
        ("%qwen3_serve ", ["embed", "rerank", "--port"], []),
        ("%qwen3_serve rerank --dt", ["--dtype"], ["embed"]),
        ("%qwen3_serve rerank --dtype ", ["float32"], []),
        ('%%qwen3_rank "an open quote --', [], ["--model"]),
        ("%qwen3_stop --", ["--all"], []),
    ],
)
def test_arguments_are_completed(shell, line, among, not_among):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # IPython's own: the kernel's other way needs jedi
        _, found = shell.complete("", line, len(line))
    assert set(among) <= set(found)
    assert not set(not_among) & set(found)


def test_the_magics_ranking_runs_again(shell):
    ranking = run(shell, f"%%qwen3_rank q {TINY}\none\ntwo")
    assert ranking.reranker is not None
    widget = ranking.inspect()
    assert widget._can_run
    widget.close()
    shell.run_line_magic("unload_ext", "qwen3_integrations")
