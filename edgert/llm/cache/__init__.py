"""What a KV cache does when it is full, and how it goes to a file and back."""

from edgert.llm.cache.policies import HeavyHitters, Keep, Policy, SinksAndWindow

__all__ = ["HeavyHitters", "Keep", "Policy", "SinksAndWindow"]
