"""What is the matter: with one row, with the rows of a model, with a database."""
