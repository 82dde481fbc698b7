"""What every served application has: settings, life, health, metrics, hosts, origins, errors."""
