"""What the stack tells about itself: log lines as JSON, `/metrics` of each process, figures of its stores, a trace."""
