"""From the intermediate representation to text that LLVM compiles."""
