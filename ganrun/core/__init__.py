"""The training loop: pair, game, update, engine. Imports no other room; knows no model, loss or trick by name."""
