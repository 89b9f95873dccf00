"""From LLVM's text to machine code, kept in memory and on disk."""
