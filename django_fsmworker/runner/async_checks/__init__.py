"""Checks that are ``async def``: the event loop, its feeder, and the threads they call."""
