"""Code for a notebook's cell: a client of a running server. It contains no key, and runs again after a restart of the kernel."""

from __future__ import annotations

import json
from collections.abc import Mapping

from qwen3_integrations.engines.secrets import KEY_VARIABLE
from qwen3_integrations.serving import Server


def notebook_code(server: Server) -> dict[str, str]:
    """Code by client: `langchain`, `llama_index`, `openai`, `curl`; those that the server has.

    Args:
        server: The server; the kernel must run on the same machine, as the same user.
    """
    has_key = server.api_key is not None
    made: Mapping[str, str] = server.snippets()
    order = ("langchain", "llama_index", "openai", "curl")
    return {name: _cell(name, made[name], server.name, has_key=has_key) for name in order if name in made}


def _cell(client: str, code: str, server: str, *, has_key: bool) -> str:
    if client == "curl":
        code = _shell(code)
    code = code.replace("  # the key: " + KEY_VARIABLE, "")
    if not has_key:
        return code
    code = code.removeprefix("import os\n")
    begin, blank = ("", "\n") if code.startswith(("from ", "import ")) else ("\n", "")
    return (
        f"import os\n\nfrom qwen3_integrations.serving import attach\n{begin}{_imports(code)}{blank}"
        f"os.environ[{json.dumps(KEY_VARIABLE)}] = attach({json.dumps(server)}).api_key  # read from the running server\n{_body(code)}"
    )


def _imports(code: str) -> str:
    """The lines before the first blank line, where the code begins with imports."""
    return code.partition("\n\n")[0] + "\n" if code.startswith(("from ", "import ")) else ""


def _body(code: str) -> str:
    return code.partition("\n\n")[2] if code.startswith(("from ", "import ")) else code


def _shell(command: str) -> str:
    """A shell command as a line of a Python cell."""
    quoted = f'r"""\n{command}\n"""' if '"""' not in command and not command.endswith("\\") else repr(command)
    return f'get_ipython().run_cell_magic("bash", "", {quoted})'
