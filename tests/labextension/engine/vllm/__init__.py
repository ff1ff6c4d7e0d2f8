"""A package in the place of vLLM: its command serves the small model with PyTorch, and starts in seconds."""
