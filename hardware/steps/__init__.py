"""The price of a step, and the tables that it is read from."""
