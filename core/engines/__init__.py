"""The engines: `local` (torch and peft in this process); each implements core.engines.base."""
