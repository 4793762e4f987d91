"""What tests play on: servers that can be stopped and stalled, files, clients, and looks at both stores."""
