"""What is this machine's and not the proxy's: folders, variables, trust stores, the desktop's own proxy."""
