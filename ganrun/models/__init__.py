"""Networks, one file a family, each with a Generator and a Discriminator. Knows no loss, trick or game."""
