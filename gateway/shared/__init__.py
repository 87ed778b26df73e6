"""What all gateways of a deployment share: kept in Redis, with a copy in each gateway and on its disk."""
