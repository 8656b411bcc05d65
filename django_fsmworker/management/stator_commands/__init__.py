"""The subcommands of ``manage.py stator``: one module a group.

To add one, derive from ``Subcommand`` in a module here and name it in ``registry``.
"""
