"""Files, locks, signals, progress, errors, the device."""
