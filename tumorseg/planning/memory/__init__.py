"""The memory that training and prediction need."""
