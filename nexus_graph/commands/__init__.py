"""What people see in a terminal: each command's output, progress and exit code."""
