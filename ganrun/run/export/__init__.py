"""A trained network as files that other programs read, each checked against the network. Trains and samples nothing."""
