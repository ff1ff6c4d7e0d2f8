"""Embedded vLLM (its own worker process): the engine, its start, and the thread that owns it."""
