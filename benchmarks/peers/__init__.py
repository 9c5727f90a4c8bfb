"""What a user would take instead: one peer a file, each with `run(task)`."""
