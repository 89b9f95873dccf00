"""From functions written in torch to the intermediate representation."""
