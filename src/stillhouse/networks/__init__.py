"""Networks: encoders, heads and teachers; modules with weights or memory."""
