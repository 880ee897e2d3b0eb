"""How an artifact gets to a device and runs there. The local machine needs nothing; others come with their targets."""
