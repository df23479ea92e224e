"""The resolver that sandboxes ask: `server.Resolver` serves, `zone.Zone` says who has which name."""
