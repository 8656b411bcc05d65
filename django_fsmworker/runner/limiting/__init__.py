"""What may be claimed of states that are limited or paused."""
