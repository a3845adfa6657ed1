"""The CA that the proxy signs with, what programs need to trust it, and the trust stores of each platform.

`authority` makes and reads the CA; `bundle` joins it with the public ones; `leaves` keeps what mitmproxy
signs within the CA's limits. `linux`, `nss`, `macos` and `windows` know one kind of trust store each,
`stores` which of them are here, and `machine` is all they may see of the computer.
"""
