"""What an attempt comes to, and how it is written."""
