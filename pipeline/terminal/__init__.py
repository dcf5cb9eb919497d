"""What fits a terminal of any width: tables that turn into lists, and the stages of a run while it runs."""
