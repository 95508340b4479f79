"""What every service of the emulator stands on, and which knows none of them."""
