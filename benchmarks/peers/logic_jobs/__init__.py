"""A model with a process of django-logic: one transition in the background."""
