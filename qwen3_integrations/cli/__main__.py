"""`python -m qwen3_integrations.cli`: the command line if the command is not on the path."""

from qwen3_integrations.cli import app

app(prog_name="qwen3-integrations")
