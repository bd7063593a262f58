"""One run, or many: session, callbacks, signals, sweeps. Trains what `config` built; knows no part by name."""
