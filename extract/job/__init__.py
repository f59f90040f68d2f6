"""Computing what is missing: devices, parts, processes."""
