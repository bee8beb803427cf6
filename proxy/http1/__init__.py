"""The wire: HTTP/1.1 towards clients and upstream. Knows nothing of idempotency."""
