"""One page that compares runs: reads what they left, ranks, draws. Trains nothing and changes no run."""
