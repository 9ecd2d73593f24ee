"""Long runs: what takes too long for every `make test`. `make soak` runs them."""
