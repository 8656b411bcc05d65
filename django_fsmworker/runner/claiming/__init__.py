"""Claiming due rows: which, how many and from where; renewing their leases."""
