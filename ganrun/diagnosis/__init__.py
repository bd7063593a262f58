"""What is wrong with a run, and what to try. Reads data, networks and metrics; changes no bit of them."""
