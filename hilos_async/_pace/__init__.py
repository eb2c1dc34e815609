"""When the next request may leave. No HTTP and no tasks; the clock is given."""
