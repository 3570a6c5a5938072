;; Its turn writes to stderr for ever, in large writes of short lines.
(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\71hostile_log_flood\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 52))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (memory.fill (i32.const 4096) (i32.const 0x78) (i32.const 57344))
    (local.set 0 (i32.const 4096))
    (loop $lines
      (i32.store8 (local.get 0) (i32.const 10))
      (local.set 0 (i32.add (local.get 0) (i32.const 16)))
      (br_if $lines (i32.lt_u (local.get 0) (i32.const 61440))))
    (loop $again
      (drop (call $write (i32.const 2) (i32.const 2048) (i32.const 1) (i32.const 2060)))
      (br $again))
    unreachable)
  (data (i32.const 2048) "\00\10\00\00\00\e0\00\00"))
