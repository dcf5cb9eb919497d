"""The vocabulary every other package shares: signals, cohorts, encodings, random streams, protocols and errors."""
