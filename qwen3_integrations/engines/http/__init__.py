"""A server elsewhere: what it speaks, whether it is right, and how many callers share its requests."""
