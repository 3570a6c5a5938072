;; Its turn starts a request and then waits for 65,536 copies of its handle, without time, for ever.
(module
  (import "wasilo_1" "start" (func $start (param i32 i32) (result i64)))
  (import "wasilo_1" "wait" (func $wait (param i32 i32 i32 i64) (result i64)))
  (memory (export "memory") 8)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\71hostile_wait_many\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 52))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64) (local i64)
    (local.set 1 (call $start (i32.const 2048) (i32.const 17)))
    (loop $handle
      (i32.store offset=65536 (local.get 0) (i32.wrap_i64 (local.get 1)))
      (local.set 0 (i32.add (local.get 0) (i32.const 4)))
      (br_if $handle (i32.lt_u (local.get 0) (i32.const 262144))))
    (loop $again
      (drop (call $wait (i32.const 65536) (i32.const 65536) (i32.const 0) (i64.const 0)))
      (br $again))
    unreachable)
  (data (i32.const 2048) "\a3\01\64echo\02\40\03\66echo/x"))
