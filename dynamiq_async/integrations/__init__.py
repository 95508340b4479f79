"""Apps within programs of other kinds. Each needs an extra of its own."""
