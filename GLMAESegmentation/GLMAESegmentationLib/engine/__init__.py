"""The child process that computes: how it is started, what it says, why it failed."""
