# Asking a capability for the sturdy ref that brings it back later.
#
# The interface id and the method are those of Cap'n Proto's own persistent.capnp, where the interface is generic. A sturdy
# ref travels as Text holding a capnp:// URI.

@0xbafb41de5f81fb9f;

interface Persistent @0xc8cb212fcd9f5691 {
  save @0 (sealFor :AnyPointer) -> (sturdyRef :AnyPointer);
}
