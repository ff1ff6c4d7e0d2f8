"""`python -m qwen3_integrations.cli`, for where the command is not on the path."""

from qwen3_integrations.cli import app

app(prog_name="qwen3-integrations")
