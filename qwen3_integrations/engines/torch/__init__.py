"""PyTorch in this process: prompts packed into passes, a forward pass of our own, and the queue that all callers share."""
