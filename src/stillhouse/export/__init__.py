"""An encoder that other programs run, with its card, proven equal to the live one."""
