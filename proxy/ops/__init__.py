"""The operator's plane, on its own port: health and metrics."""
