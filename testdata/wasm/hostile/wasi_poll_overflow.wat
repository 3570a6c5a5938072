;; Its turn polls 2^28 subscriptions, of which the bytes are a multiple of 2^32.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\78\1ahostile_wasi_poll_overflow\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 62))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (drop (call $poll_oneoff (i32.const 4096) (i32.const 4096) (i32.const 0x10000000) (i32.const 2048)))
    unreachable))
