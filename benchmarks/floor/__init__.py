"""The floor: claim and settle as two batched statements in turn, no models, no checks."""
