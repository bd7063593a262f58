"""Networks: one file per family, each with a Generator and a Discriminator."""
