# As much of Cap'n Proto's rpc.capnp as it takes to write one `Bootstrap` message. The ordinals are those of the original.

@0xb7a2f1d5c09e3641;

struct Message {
  union {
    unimplemented @0 :AnyPointer;
    abort @1 :AnyPointer;
    call @2 :AnyPointer;
    return @3 :AnyPointer;
    finish @4 :AnyPointer;
    resolve @5 :AnyPointer;
    release @6 :AnyPointer;
    obsoleteSave @7 :AnyPointer;
    bootstrap @8 :Bootstrap;
    obsoleteDelete @9 :AnyPointer;
    provide @10 :AnyPointer;
    accept @11 :AnyPointer;
    join @12 :AnyPointer;
    disembargo @13 :AnyPointer;
  }
}

struct Bootstrap {
  questionId @0 :UInt32;

  deprecatedObjectId @1 :Data;
  # OCluster's peers put a Text here, whose bytes need not be UTF-8. On the wire that is the same as a Data which ends with a zero.
}
