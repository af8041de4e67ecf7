"""What is counted over a network, a channel or the whole site, and what attackers can hope for."""
