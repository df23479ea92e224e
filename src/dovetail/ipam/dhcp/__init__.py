"""Addresses from the DHCP servers of a container's network, held for as long as the container lives."""
