"""Guards: evaluated on rows just claimed, and swept over states without a check."""
