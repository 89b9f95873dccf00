"""metaest, instantiated for a domain: physiology, later kinetics, trading and others."""
