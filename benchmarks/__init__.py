"""What the SDK costs, measured against a bound and against its peers: `python -m benchmarks`."""
