;; Its turn starts a request to nobody and waits for it an hour at a time, for ever.
(module
  (import "wasilo_1" "start" (func $start (param i32 i32) (result i64)))
  (import "wasilo_1" "wait" (func $wait (param i32 i32 i32 i64) (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\a2\63abi\82\01\00\65kinds\81\a2\64name\71hostile_wait_late\66events\81\64call")
  (func (export "wasilo_describe") (result i64) (i64.const 52))
  (func (export "wasilo_inbox") (param i32) (result i32) (i32.const 4096))
  (func (export "wasilo_turn") (param i32) (result i64)
    (i64.store (i32.const 4000) (call $start (i32.const 2048) (i32.const 17)))
    (loop $again
      (drop (call $wait (i32.const 4000) (i32.const 1) (i32.const 1) (i64.const 3600000)))
      (br $again))
    unreachable)
  (data (i32.const 2048) "\a3\01\64echo\02\40\03\66echo/x"))
