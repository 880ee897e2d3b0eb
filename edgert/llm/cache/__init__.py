"""What a KV cache does when it is full, and how it goes to a file and back."""

from edgert.llm.cache.policies import HeavyHitters, Keep, Policy, SinksAndWindow
from edgert.llm.cache.pool import PrefixPool

__all__ = ["HeavyHitters", "Keep", "Policy", "PrefixPool", "SinksAndWindow"]
