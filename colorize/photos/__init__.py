"""Any photo file in, any photo file out."""
