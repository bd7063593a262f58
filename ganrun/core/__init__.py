"""The contest: pair, game, update, engine, loop. Imports no other room; knows no model, loss or trick by name."""
