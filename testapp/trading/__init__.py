"""``python -m testapp orders N``: events of several processes, runners that die, and sums."""
