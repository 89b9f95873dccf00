"""Constants that vary between tasks and between units within them: the fit, adaptation and what it returns."""
