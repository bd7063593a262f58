"""One run, or many: session, callbacks, signals, sweeps. Plays what `config` built; knows no part by name."""
