"""vLLM in this process's service: its start, the thread that owns it, and the engine before both."""
