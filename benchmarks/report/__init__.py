"""From what was measured to what is read: tables, a plot, a page. Nothing is measured here."""
