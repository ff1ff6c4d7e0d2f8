"""PyTorch in this process: prompts packed into forward passes, an own forward pass, and one queue for all callers."""
