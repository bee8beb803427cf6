"""What is told of the work: metrics and logs."""
