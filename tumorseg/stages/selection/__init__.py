"""The best combination of trained models, found on cases that they did not train on."""
