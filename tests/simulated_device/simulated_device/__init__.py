"""An engine on a device whose costs are known: computed, never slept, and the same whatever else runs here."""
