"""Language models: text to tokens and back, sampling, constraints, speculation, generation."""
